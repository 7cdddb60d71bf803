// For measurements, which end with the first error: a result's value, or an exception that says why
// there is none.
#pragma once

#include <stdexcept>
#include <utility>

#include "abi/runtime/status.hpp"

namespace aios::bench {

template <class T>
T need(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().to_string());
  return *std::move(result);
}
inline void need(const Result<void>& result) {
  if (!result) throw std::runtime_error(result.error().to_string());
}

}  // namespace aios::bench
