#include "services/scheduler/costs/copy_costs.hpp"

#include <algorithm>
#include <vector>

namespace aios::scheduler {
namespace {

/// Of a bus of which nothing is known: 10 GB/s.
constexpr TransferCost usual{10'000, 0.1};
/// Beyond these no bus is: 10 TB/s, 10 MB/s, a tenth of a second to begin.
constexpr double least_ns_per_byte = 1e-4;
constexpr double most_ns_per_byte = 100;
constexpr double most_latency_ns = 1e8;
/// So many copies are remembered: what a bus gives changes with what else is on it.
constexpr double most_weight = 32;
/// Users are compared by a copy of this size.
constexpr std::uint64_t typical_bytes = 1u << 20;

/// No copy is larger, nor done sooner.
constexpr double most_bytes = 0x1p44;
constexpr double least_copy_ns = 10;

/// What some bus could have copied within that time. So means are far below what a stored history
/// may hold (history_record.cpp), whatever a context says.
bool makes_sense(const proto::context::Copies::Sum& sum, std::uint64_t within_ns) {
  if (sum.count == 0 || sum.bytes < sum.count || sum.ns == 0) return false;
  const auto count = static_cast<double>(sum.count);
  const auto bytes = static_cast<double>(sum.bytes);
  const auto within = static_cast<double>(within_ns);
  return count * least_copy_ns <= within && bytes * least_ns_per_byte <= within &&
         bytes <= count * most_bytes &&
         static_cast<double>(sum.ns) <= count * most_latency_ns + bytes * most_ns_per_byte;
}

}  // namespace

void CopyCosts::Mean::add(const Copies::Sum& sum) {
  const auto count = static_cast<double>(sum.count);
  const double share = count / (weight + count);
  bytes += (static_cast<double>(sum.bytes) / count - bytes) * share;
  ns += (static_cast<double>(sum.ns) / count - ns) * share;
  weight = std::min(weight + count, most_weight);
}

TransferCost CopyCosts::Direction::cost() const {
  TransferCost line = usual;
  if (small.weight > 0 && large.weight > 0) {
    line.ns_per_byte = (large.ns - small.ns) / (large.bytes - small.bytes);
    line.latency_ns = small.ns - line.ns_per_byte * small.bytes;
  } else if (large.weight > 0) {
    line.latency_ns = std::min(usual.latency_ns, large.ns / 2);
    line.ns_per_byte = (large.ns - line.latency_ns) / large.bytes;
  } else if (small.weight > 0) {
    line.latency_ns = small.ns;
  }
  line.ns_per_byte = std::clamp(line.ns_per_byte, least_ns_per_byte, most_ns_per_byte);
  line.latency_ns = std::clamp(line.latency_ns, 0.0, most_latency_ns);
  return line;
}

void CopyCosts::learn(std::uint32_t user, const Copies::Reply& more, std::uint64_t within_ns) {
  const Copies::Sum(*sums[])[2] = {&more.to_device, &more.to_host};
  for (std::size_t direction = 0; direction < std::size(sums); ++direction) {
    const auto& [small, large] = *sums[direction];
    Direction* into = nullptr;
    for (const Copies::Sum* sum : {&small, &large}) {
      if (!makes_sense(*sum, within_ns)) continue;
      const bool is_large = sum->bytes / sum->count >= Copies::large_bytes;
      if (is_large != (sum == &large)) continue;
      if (into == nullptr) into = &user_of(user).directions[direction];
      (is_large ? into->large : into->small).add(*sum);
      samples_ += sum->count;
    }
  }
}

CopyCosts::User& CopyCosts::user_of(std::uint32_t user) {
  if (users_.size() >= max_users && !users_.contains(user))
    users_.erase(std::ranges::min_element(users_, {},
                                          [](const auto& entry) { return entry.second.last_use; }));
  User& found = users_[user];
  found.last_use = samples_;
  return found;
}

std::vector<SavedCopies> CopyCosts::save(std::uint32_t device) const {
  std::vector<SavedCopies> all;
  for (const auto& [id, user] : users_) {
    SavedCopies& saved = all.emplace_back(SavedCopies{device, id, {}});
    for (std::size_t way = 0; way < user.directions.size(); ++way) {
      const Mean* means[] = {&user.directions[way].small, &user.directions[way].large};
      for (int large = 0; large < 2; ++large)
        saved.means[way][large] = {means[large]->weight, means[large]->bytes, means[large]->ns};
    }
  }
  return all;
}

void CopyCosts::restore(const SavedCopies& saved) {
  if (users_.contains(saved.user)) return;
  User& user = user_of(saved.user);
  for (std::size_t way = 0; way < user.directions.size(); ++way) {
    Mean* means[] = {&user.directions[way].small, &user.directions[way].large};
    for (int large = 0; large < 2; ++large) {
      const auto& [weight, bytes, ns] = saved.means[way][large];
      if (!(weight > 0)) continue;
      *means[large] = {std::min(weight, double{most_restored_samples}), bytes, ns};
      samples_ += static_cast<std::uint64_t>(means[large]->weight);
    }
  }
}

TransferCost CopyCosts::cost(std::size_t direction) const {
  std::vector<TransferCost> all;
  for (const auto& [id, user] : users_)
    if (user.directions[direction].known()) all.push_back(user.directions[direction].cost());
  if (all.empty()) return usual;
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>((all.size() - 1) / 2);
  std::ranges::nth_element(all, middle, {},
                           [](const TransferCost& one) { return one.of(typical_bytes); });
  return *middle;
}

}  // namespace aios::scheduler
