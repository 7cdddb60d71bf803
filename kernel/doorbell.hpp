// A doorbell: a one-page pipe whose reader, ringer and the kernel each have an open file of their
// own, so that none can make another block, and a ringer can silence only its own rings.
#pragma once

#include "abi/runtime/fd.hpp"
#include "kernel/sys_linux.hpp"

namespace aios::kernel {

class Doorbell {
 public:
  static Result<Doorbell> create() {
    Doorbell bell;
    bell.pipe_ = TRY(sys::make_pipe());
    return bell;
  }
  Result<Fd> reader() const { return sys::reopen_pipe(pipe_, true); }
  Result<Fd> ringer() const { return sys::reopen_pipe(pipe_, false); }
  bool valid() const { return pipe_.valid(); }
  void ring() const {
    if (valid()) sys::write_byte(pipe_);
  }

 private:
  Fd pipe_;
};

}  // namespace aios::kernel
