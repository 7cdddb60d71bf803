// A file for what long work comes to. It is opened before the work begins, so that none is done for
// a path that cannot be written, and written when all is done.
#pragma once

#include <string>
#include <string_view>

#include "abi/runtime/fd.hpp"

namespace aios::ctl {

class LateFile {
 public:
  /// What is there stays as it is until `write`. May block where `path` is a pipe's.
  static Result<LateFile> open(const std::string& path);
  LateFile(LateFile&& other) noexcept = default;
  /// Where nothing was written, a file that was not there before is gone again.
  ~LateFile();

  /// The text in place of what is there. Once.
  Result<void> write(std::string_view text);
  const std::string& path() const { return path_; }

 private:
  LateFile(std::string path, Fd fd, bool is_new)
      : path_(std::move(path)), fd_(std::move(fd)), is_new_(is_new) {}

  std::string path_;
  Fd fd_;
  bool is_new_;
};

}  // namespace aios::ctl
