// What device memory that outlives its context holds, noted in a page that outlives it, too.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "abi/runtime/fd.hpp"

namespace aios::gpu {

/// The mark of an allocation, or of a piece: its word of the ledger (proto::memory::Ledger).
/// Whatever moment the context dies at, the word is zero or says what the memory really holds: it
/// is zero while anything on its way to the device changes the bytes. Thread-safe.
class ContentMark {
 public:
  /// `word` is in the ledger.
  ContentMark(std::shared_ptr<const Mapping> ledger, std::uint32_t& word)
      : ledger_(std::move(ledger)), word_(word) {}
  ContentMark(const ContentMark&) = delete;

  /// What is noted.
  std::uint32_t content() const;
  /// Before something is handed to the device that changes the bytes. The number of this change.
  std::uint64_t begin_change();
  /// When it is done: they are `content`, unless another change was begun since.
  void end_change(std::uint64_t change, std::uint32_t content);
  /// The allocation is given back: notes nothing more.
  void close();

 private:
  void write(std::uint32_t content);

  const std::shared_ptr<const Mapping> ledger_;
  const std::atomic_ref<std::uint32_t> word_;
  std::mutex mutex_;
  std::uint64_t changes_ = 0;
  bool closed_ = false;
};

}  // namespace aios::gpu
