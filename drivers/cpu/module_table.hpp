// The modules a context has loaded. They stay loaded until it ends.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"
#include "drivers/cpu/codelet_run.hpp"

namespace aios::cpu {

/// Makes every library that a module may need part of this process, so that modules find them where
/// there are no files: those of allowed_libraries, and OpenBLAS where the machine has a build of it
/// that several threads may use at once. It makes no threads here. Before the process shuts itself
/// off, and once, before there are threads. not_found names a missing one.
Result<> preload_libraries();

class ModuleTable {
 public:
  /// Modules are written to `folder` for the moment in which they are loaded; empty: into anonymous
  /// memory, opened through /proc.
  explicit ModuleTable(std::string folder) : folder_(std::move(folder)) {}

  /// Loads `image`, and finds `codelet` in it: the number is for `codelet()`. Runs code of the
  /// module, but of the same bytes only once: a module that could not be loaded is refused again
  /// with the first reason, and counts. Any thread; one module loads at a time. Statuses as
  /// proto::context::Load; no_space: the folder is full.
  Result<std::uint32_t> load(std::span<const std::byte> image, std::string_view codelet);

  /// invalid_argument: not a number that load gave out. Any thread, also while a module loads;
  /// valid as long as the table.
  Result<const Codelet*> codelet(std::uint32_t number) const;

 private:
  struct Digest {
    std::uint64_t low, high, bytes;
    bool operator==(const Digest&) const = default;
  };
  struct Module {
    Digest digest;
    Fd memory;  // stays open, since the loader takes two modules of one path for the same
    Result<std::vector<Codelet>> codelets;
  };
  Result<Fd> store(std::span<const std::byte> image, std::string& path) const;
  Result<const Module*> find_or_load(std::span<const std::byte> image, std::uint32_t& index);

  const std::string folder_;
  std::mutex load_mutex_;       // held while module code runs, perhaps for ever
  mutable std::mutex mutex_;    // never held for long
  std::deque<Module> modules_;  // changed under both; a deque does not move what it holds
};

}  // namespace aios::cpu
