#include "tools/aiosctl/common/interrupts.hpp"

#include <csignal>
#include <initializer_list>

namespace aios::ctl {

namespace {

volatile std::sig_atomic_t raised = 0;

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int) { raised = 1; };
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(number, &action, nullptr);
}

bool interrupted() {
  return raised != 0;
}

}  // namespace aios::ctl
