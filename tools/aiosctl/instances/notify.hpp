// Telling the service manager how far we are.
#pragma once

#include <string>

namespace aios::ctl {

/// Sends lines such as "READY=1\nSTATUS=serving" to the service manager that started this process
/// and waits for them ($NOTIFY_SOCKET; the protocol of sd_notify). Nothing where there is none.
void notify_manager(const std::string& lines);

}  // namespace aios::ctl
