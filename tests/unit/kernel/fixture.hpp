// A kernel's objects without processes: a root job and Process objects that no Linux process backs.
#pragma once

#include <doctest/doctest.h>

#include <memory>

#include "kernel/job.hpp"
#include "kernel/link.hpp"
#include "kernel/process.hpp"

namespace aios::kernel {

inline const Quota ample{1ull << 30, 100, 10'000, 2'000, 0};

struct World {
  Registry registry;
  std::shared_ptr<Job> root =
      std::make_shared<Job>(registry.next_id++, nullptr, Name::from("root"), ample);

  ~World() {
    registry.processes.clear();
    root->mark_killed();
  }
  std::shared_ptr<Job> job(const char* name, const Quota& quota = {}) {
    auto child = root->make_child(registry.next_id++, Name::from(name), quota);
    REQUIRE(child);
    return *child;
  }
  /// A process in `job` (the root if null) with mapped pages.
  std::shared_ptr<Process> process(const char* name, std::shared_ptr<Job> job = nullptr) {
    auto made = std::make_shared<Process>(registry, registry.next_id++, Process::Kind::child,
                                          Name::from(name));
    REQUIRE(made->join(job ? job : root));
    REQUIRE(made->open_pages());
    REQUIRE(made->seal_status_page());
    return made;
  }
  std::shared_ptr<Port> port(const char* name) {
    return std::make_shared<Port>(registry.next_id++, Name::from(name));
  }
};

/// The signals raised on `handle` among all that are raised; the others are dropped.
inline std::uint32_t signals_of(Process& process, Handle handle) {
  std::uint32_t signals = 0;
  for (auto next = process.handles.next_signal(); next.handle != 0;
       next = process.handles.next_signal())
    if (next.handle == handle) signals |= next.signals;
  return signals;
}

template <class T>
Code code_of(const Result<T>& result) {
  return result ? Code::ok : result.error().code();
}

}  // namespace aios::kernel
