// A lent-file channel: a socket pair on which one process hands opened files to processes of its
// own job and below. The kernel passes the ends on and never looks at what lies in them.
#pragma once

#include "kernel/region.hpp"

namespace aios::kernel {

class File final : public Object {
 public:
  static constexpr ObjectType object_type = ObjectType::file;
  static constexpr std::uint32_t use_rights = rights::info | rights::duplicate | rights::send;
  static constexpr std::uint32_t grant_rights = use_rights | rights::map_read;

  File(Registry& registry, std::shared_ptr<Job> creator, Fd reading_end)
      : Object(object_type, registry.next_id++),
        registry_(registry),
        creator_(std::move(creator)),
        reading_end_(std::move(reading_end)) {}
  ~File() override { registry_.released_channels.push_back(std::move(reading_end_)); }
  /// denied when `reader` is neither the creator's job nor below it.
  Result<Fd> open_for(const Job& reader) const {
    if (creator_->contains(reader)) return reading_end_.duplicate();
    return error(Code::denied, "these files are lent within another job");
  }

 private:
  Registry& registry_;
  std::shared_ptr<Job> creator_;
  Fd reading_end_;
};

}  // namespace aios::kernel
