#include "tests/support/failing_memory.hpp"

#include <cstdlib>
#include <new>

namespace {

/// Of this thread: so many succeed, then one fails, or all that follow.
thread_local long before_failure = -1;
thread_local bool fails_for_good = false;
thread_local long failures = 0;

bool fails_now() {
  if (before_failure < 0) return false;
  if (before_failure > 0) return --before_failure, false;
  if (!fails_for_good) before_failure = -1;
  ++failures;
  return true;
}

void* allocate(std::size_t bytes) {
  return fails_now() ? nullptr : std::malloc(bytes != 0 ? bytes : 1);
}

void* given(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) {
  return given(allocate(bytes));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return allocate(bytes);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  const auto unit = static_cast<std::size_t>(alignment);
  return given(fails_now() ? nullptr : std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit));
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace aios::test {

FailingMemory::FailingMemory(long before, bool for_good) {
  fails_for_good = for_good;
  before_failure = before;
}

FailingMemory::~FailingMemory() {
  before_failure = -1;
}

long failed_allocations() {
  return failures;
}

}  // namespace aios::test
