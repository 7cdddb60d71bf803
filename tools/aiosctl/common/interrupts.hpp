// Ctrl-C in commands that clean up after themselves.
#pragma once

namespace aios::ctl {

/// From now on SIGINT, SIGTERM and SIGHUP only make `interrupted` true.
void catch_interrupts();
bool interrupted();

}  // namespace aios::ctl
