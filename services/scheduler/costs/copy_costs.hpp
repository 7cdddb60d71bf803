// What it takes to copy data between the host's memory and a device's own: learned from what
// contexts say of the copies they made. Small copies show what each takes whatever its size, large
// ones what a byte takes.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "abi/proto/device.hpp"
#include "services/scheduler/core/parts/memories.hpp"
#include "services/scheduler/costs/history_record.hpp"

namespace aios::scheduler {

/// Of one device.
class CopyCosts {
 public:
  using Copies = proto::context::Copies;

  /// What a context of `user` has copied since it was asked last, at most `within_ns` ago. What no
  /// bus could have done in that time is dropped.
  void learn(std::uint32_t user, const Copies::Reply& more, std::uint64_t within_ns);
  /// Before anything was copied, what is usual for a bus. The numbers are contexts' words, and a
  /// user's may lie: of several users, as the cheaper half says at least. So nobody can keep others
  /// from a device.
  TransferCost to_device() const { return cost(0); }
  TransferCost to_host() const { return cost(1); }
  /// Copies learned from.
  std::uint64_t samples() const { return samples_; }

  static constexpr std::size_t max_users = 64;
  /// To be kept over restarts, of each user; and restored for one of whom nothing is known yet.
  /// What was learned in an earlier life counts as few copies.
  std::vector<SavedCopies> save(std::uint32_t device) const;
  void restore(const SavedCopies& saved);

 private:
  /// Running means of late.
  struct Mean {
    double weight = 0;  ///< copies, as far as they are remembered
    double bytes = 0;
    double ns = 0;
    void add(const Copies::Sum& sum);
  };
  struct Direction {
    Mean small, large;
    bool known() const { return small.weight > 0 || large.weight > 0; }
    TransferCost cost() const;
  };
  struct User {
    std::array<Direction, 2> directions;
    std::uint64_t last_use = 0;
  };
  TransferCost cost(std::size_t direction) const;
  User& user_of(std::uint32_t user);

  std::map<std::uint32_t, User> users_;
  std::uint64_t samples_ = 0;
};

}  // namespace aios::scheduler
