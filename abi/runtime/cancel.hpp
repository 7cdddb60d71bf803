// pthread_cancel unwinds a thread out of whatever system call blocks it. Our functions end no host,
// and leave no lock or half-made call behind; so a thread is not cancelled within them.
#pragma once

#include <pthread.h>

namespace aios {

/// While it lives, cancelling this thread waits. Takes some nanoseconds: around system calls.
class Uncancelled {
 public:
  Uncancelled() { ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  Uncancelled(const Uncancelled&) = delete;
  ~Uncancelled() { ::pthread_setcancelstate(before_, nullptr); }

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace aios
