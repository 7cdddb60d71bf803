// A spawner: the permission to start one image under one profile on behalf of any job that is shown
// with `act`. The image is opened when the spawner is made, so it cannot be exchanged later.
#pragma once

#include <string>

#include "abi/runtime/fd.hpp"
#include "kernel/object.hpp"

namespace aios::kernel {

class Spawner final : public Object {
 public:
  static constexpr ObjectType object_type = ObjectType::spawner;
  static constexpr std::uint32_t handle_rights =
      rights::info | rights::duplicate | rights::send | rights::spawn;

  Spawner(std::uint64_t id, const Name& name, proto::kernel::Profile profile, std::string image,
          Fd fd)
      : Object(object_type, id),
        profile(profile),
        image(image),
        image_fd(std::move(fd)),
        name_(name) {}
  Name name() const override { return name_; }

  const proto::kernel::Profile profile;
  const std::string image;
  const Fd image_fd;

 private:
  Name name_;
};

}  // namespace aios::kernel
