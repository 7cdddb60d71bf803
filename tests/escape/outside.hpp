// What the attempts try to reach, made on the host for as long as this lives.
#pragma once

#include <memory>
#include <string>

#include "abi/runtime/fd.hpp"
#include "tests/escape/attempts.hpp"

namespace aios::escape {

/// Becomes an ordinary user, for good; only root can.
bool become(long user);

class OutsideWorld {
 public:
  /// In a new folder of the temporary ones, which goes with this. `program` is the prober itself.
  /// What `user` could own is theirs, unless it is negative.
  static Result<std::unique_ptr<OutsideWorld>> create(const std::string& program, long user);
  ~OutsideWorld();
  const Outside& get() const { return outside_; }
  /// Belongs to those who try.
  const std::string& own_folder() const { return own_folder_; }

 private:
  OutsideWorld() = default;
  Result<void> make_files(const std::string& program, long user);
  Result<void> make_sockets(long user);
  void start_victim(long user);

  Outside outside_;
  std::string own_folder_;
  pid_t giver_ = 0;
  Fd tcp_;
  Fd by_path_;
  Fd abstract_;
};

}  // namespace aios::escape
