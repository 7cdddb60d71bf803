#include "kernel/port.hpp"

#include "kernel/link.hpp"

namespace aios::kernel {

Port::~Port() {
  for (const auto& link : std::exchange(waiting_, {})) link->close();
}

void Port::push(std::shared_ptr<Link> link) {
  waiting_.push_back(std::move(link));
  raise(signal::connect_pending);
}

void Port::remove(const Link& link) {
  std::erase_if(waiting_, [&link](const auto& waiting) { return waiting.get() == &link; });
}

}  // namespace aios::kernel
