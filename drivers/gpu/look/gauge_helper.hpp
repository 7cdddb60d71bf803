// The helper that reads gauges for the driver, and the child that it has for that.
#pragma once

namespace aios::gpu {

/// Talks on descriptor 0: a line of PCI addresses and uuids between tabs is answered by lines, of
/// which the last says that these are all. Ends when the other end is closed.
void serve_gauges(unsigned limit_ms);

}  // namespace aios::gpu
