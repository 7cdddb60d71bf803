// How the functions of libaios report errors: a code, and text kept for the thread.
#pragma once

#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "abi/include/aios/aios.h"
#include "abi/runtime/cancel.hpp"
#include "abi/runtime/status.hpp"
#include "abi/runtime/time.hpp"

namespace aios::lib {

/// Remembers `text` for aios_last_error() and gives the code.
aios_code fail(Code code, std::string_view text) noexcept;
inline aios_code fail(const Status& status) noexcept {
  return fail(status.code(), status.message());
}

/// "aios_attach: an argument is NULL"
aios_code null_argument(std::string_view function) noexcept;

/// Runs `body`, which returns a Result<void>. Nothing it throws reaches the host. For what keeps
/// its thread from being cancelled by itself, where it makes system calls: the path of a call.
template <class Body>
aios_code guarded_call(Body body) noexcept {
  try {
    const Result<void> result = body();
    return result ? AIOS_OK : fail(result.error());
  } catch (const std::bad_alloc&) {
    return fail(Code::no_memory, "out of memory");
  } catch (...) {
    return fail(Code::internal, "unexpected exception in libaios");
  }
}

/// The same for all else.
template <class Body>
aios_code guarded(Body body) noexcept {
  const Uncancelled until_end;
  return guarded_call(std::move(body));
}

/// The same for what has no result.
template <class Body>
void guarded_end(Body body) noexcept {
  (void)guarded([&]() -> Result<void> {
    body();
    return {};
  });
}

inline Deadline deadline_of(std::uint64_t timeout_ns) {
  return timeout_ns == AIOS_FOREVER ? Deadline::never() : Deadline::after(timeout_ns);
}

}  // namespace aios::lib
