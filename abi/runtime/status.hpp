// Errors as values. `Result<T>` is the return type of everything that can fail; no exception
// crosses a process or library boundary.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace aios {

/// The numbers are part of the ABI (aios.h names the same ones) and never change meaning.
enum class Code : std::uint32_t {
  ok = 0,
  invalid_argument = 1,  ///< the request makes no sense; the message says which part
  bad_handle = 2,        ///< no such handle, or a stale one
  wrong_type = 3,        ///< the handle names an object of another type
  denied = 4,            ///< the handle lacks the right, or the caller the permission
  not_found = 5,
  already_exists = 6,
  quota = 7,  ///< a limit of the job or of the table is reached
  no_memory = 8,
  no_space = 9,       ///< the disk is full
  busy = 10,          ///< try again after the event the method documents
  timed_out = 11,     ///< the caller's deadline passed
  peer_closed = 12,   ///< the other side of the link is gone
  service_down = 13,  ///< the server behind a port will not come back by itself
  unreachable = 14,   ///< no AIOS instance answers there
  not_supported = 15,
  too_large = 16,
  io_error = 17,
  corrupt = 18,  ///< stored bytes do not match their checksum
  cancelled = 19,
  crashed = 20,         ///< the code that did the work died; the message names the cause
  indeterminate = 21,   ///< the work may have half happened
  source_changed = 22,  ///< the caller's buffer or file changed while it was read
  protocol_error = 23,  ///< the peer broke the protocol; the link is closed
  version_mismatch = 24,
  internal = 25,  ///< a defect of AIOS itself
  too_late = 26,  ///< it would not be done by its deadline, and was not begun
};

/// Whether a number from elsewhere is one of them.
constexpr bool is_code(std::uint32_t number) {
  return number <= static_cast<std::uint32_t>(Code::too_late);
}

/// Short, stable, lower-case name such as "peer_closed".
std::string_view code_name(Code code);

class [[nodiscard]] Status {
 public:
  explicit Status(Code code, std::string message = {})
      : code_(code), message_(std::move(message)) {}
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  /// "peer_closed: storage went away during put"
  std::string to_string() const;

 private:
  Code code_;
  std::string message_;
};

template <class T = void>
using Result = std::expected<T, Status>;

inline std::unexpected<Status> error(Code code, std::string message = {}) {
  return std::unexpected<Status>(Status(code, std::move(message)));
}

/// The current errno as a status: ENOENT is not_found, EACCES denied, ENOSPC no_space, and so on;
/// everything unforeseen is io_error. The message is "what: strerror".
std::unexpected<Status> errno_error(std::string_view what, int errno_value);

namespace detail {
template <class T>
T unwrap(Result<T>&& result) {
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}
}  // namespace detail
}  // namespace aios

/// The value of a Result, or return its error from the enclosing function.
///
/// Never behind another element of a braced list, `Named{name, TRY(open(name))}`, or of an
/// aggregate in parentheses: compilers do not destroy what it holds already when it returns from
/// there. Name the value in a line before; tools/check refuses braces. A call's arguments are safe.
#define TRY(...)                                                              \
  __extension__({                                                             \
    auto try_result_ = (__VA_ARGS__);                                         \
    if (!try_result_) [[unlikely]]                                            \
      return std::unexpected<::aios::Status>(std::move(try_result_).error()); \
    ::aios::detail::unwrap(std::move(try_result_));                           \
  })
