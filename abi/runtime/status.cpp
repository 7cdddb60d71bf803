#include "abi/runtime/status.hpp"

#include <array>
#include <cerrno>
#include <cstring>

namespace aios {

std::string_view code_name(Code code) {
  static constexpr std::array<std::string_view, 27> names = {"ok",
                                                             "invalid_argument",
                                                             "bad_handle",
                                                             "wrong_type",
                                                             "denied",
                                                             "not_found",
                                                             "already_exists",
                                                             "quota",
                                                             "no_memory",
                                                             "no_space",
                                                             "busy",
                                                             "timed_out",
                                                             "peer_closed",
                                                             "service_down",
                                                             "unreachable",
                                                             "not_supported",
                                                             "too_large",
                                                             "io_error",
                                                             "corrupt",
                                                             "cancelled",
                                                             "crashed",
                                                             "indeterminate",
                                                             "source_changed",
                                                             "protocol_error",
                                                             "version_mismatch",
                                                             "internal",
                                                             "too_late"};
  const auto index = static_cast<std::size_t>(code);
  return index < names.size() ? names[index] : "unknown";
}

std::string Status::to_string() const {
  std::string text(code_name(code_));
  if (!message_.empty()) text += ": " + message_;
  return text;
}

static Code code_of_errno(int value) {
  switch (value) {
    case ENOENT:
    case ENOTDIR:
    case ESRCH:
      return Code::not_found;
    case EACCES:
    case EPERM:
    case EROFS:
      return Code::denied;
    case EEXIST:
    case ENOTEMPTY:
      return Code::already_exists;
    case ENOSPC:
    case EDQUOT:
      return Code::no_space;
    case ENOMEM:
      return Code::no_memory;
    case EMFILE:
    case ENFILE:
    case ETOOMANYREFS:
      return Code::quota;
    case EINVAL:
    case EISDIR:
    case ELOOP:
      return Code::invalid_argument;
    case ENAMETOOLONG:
    case EFBIG:
    case EMSGSIZE:
      return Code::too_large;
    case EBUSY:
    case EAGAIN:
      return Code::busy;
    case ETIMEDOUT:
      return Code::timed_out;
    case EPIPE:
    case ECONNRESET:
      return Code::peer_closed;
    case ECONNREFUSED:
      return Code::unreachable;
    case ENOSYS:
    case EOPNOTSUPP:
      return Code::not_supported;
    default:
      return Code::io_error;
  }
}

std::unexpected<Status> errno_error(std::string_view what, int errno_value) {
  std::string message(what);
  message += ": ";
  message += std::strerror(errno_value);
  return error(code_of_errno(errno_value), std::move(message));
}

}  // namespace aios
