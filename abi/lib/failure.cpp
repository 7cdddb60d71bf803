#include "abi/lib/failure.hpp"

namespace aios::lib {

namespace {
thread_local std::string last_error;
}

aios_code fail(Code code, std::string_view text) noexcept {
  try {
    last_error = text;
  } catch (const std::bad_alloc&) {
    last_error.clear();
  }
  return static_cast<aios_code>(code);
}

aios_code null_argument(std::string_view function) noexcept {
  try {
    return fail(Code::invalid_argument, std::string(function) + ": an argument is NULL");
  } catch (const std::bad_alloc&) {
    return fail(Code::invalid_argument, {});
  }
}

}  // namespace aios::lib

const char* aios_version(void) {
  return AIOS_VERSION;
}

const char* aios_code_name(aios_code code) {
  return aios::code_name(static_cast<aios::Code>(code)).data();
}

const char* aios_last_error(void) {
  return aios::lib::last_error.c_str();
}
