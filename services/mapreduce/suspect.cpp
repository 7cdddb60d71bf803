#include "services/mapreduce/suspect.hpp"

#include <algorithm>

#include "abi/include/aios/mapreduce/format.hpp"

namespace aios::mapreduce {

namespace {

/// Where halving begins when a task does not say how far it came.
constexpr std::uint64_t first_limit = 1u << 16;

std::uint32_t limit_of(std::uint64_t records) {
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(records, 1, engine::skip_one_record - 1));
}

}  // namespace

std::uint32_t Suspect::record_limit() const {
  return skipping_ ? engine::skip_one_record : limit_;
}

bool Suspect::failed(std::uint64_t record) {
  if (limit_ == 1) return skipping_ = true;
  if (limit_ != 0) {
    within_ = limit_;
    limit_ = limit_of(within_ / 2);
  } else if (record != 0) {
    within_ = record;
    limit_ = limit_of(record - 1);
  } else {
    within_ = 2 * first_limit;
    limit_ = limit_of(first_limit);
  }
  return false;
}

void Suspect::succeeded(std::uint64_t records) {
  if (limit_ == 0) return;
  within_ = skipping_ ? 0 : within_ - std::min(within_, records);
  skipping_ = false;
  if (within_ == 0)
    limit_ = 0;  // found, or not to be found again
  else if (records < limit_)
    limit_ -= static_cast<std::uint32_t>(records);
  else
    limit_ = limit_of(within_ / 2);
}

}  // namespace aios::mapreduce
