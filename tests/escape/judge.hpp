// Runs the attempts inside sandboxes, whole ones and ones with parts left out, and judges.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "abi/runtime/sandbox/sandbox.hpp"
#include "tests/escape/attempts.hpp"

namespace aios::escape {

/// How a sandbox is put up for one attempt.
struct Setup {
  Profile profile = Profile::server;
  bool namespaces = true;
  std::uint32_t leave_out = 0;
  bool gpu = false;  ///< jit: it opens a GPU
};

struct Verdict {
  enum class What { done, refused, killed, broken } what = What::broken;
  std::string how{};  ///< "EACCES", "SIGSYS"
};

class Judge {
 public:
  /// `own_folder` is the one that profiles with a folder keep.
  Judge(const Outside& outside, std::string own_folder);

  /// Whether everything is stopped inside each profile (or the one named): whole, without
  /// namespaces, and as on Linux 6.1 where Linux has more. Prints one line for each attempt.
  bool try_profiles(const std::string& only);
  /// Whether each protection of this host stops something that succeeds without it, and whether
  /// something gets out when the system call filter is left out. Prints what.
  bool show_that_attempts_are_real();
  void print_sum() const;

 private:
  Verdict attempt(const Attempt& attempt, const Setup& setup) const;
  /// What a sandbox so set up has on this host.
  std::uint32_t enforced(const Setup& setup) const;
  bool try_whole(Profile profile, bool gpu);
  /// Whether a GPU's library could start.
  bool try_starting(const char* name, const Setup& setup);
  bool try_fallback(const char* name, const Setup& setup);
  /// The protections each of which stops it alone.
  std::uint32_t alone(const Attempt& attempt, Profile profile);
  bool possible_without(const Attempt& attempt);
  bool filter_left_out();

  const Outside& outside_;
  std::string own_folder_;
  std::vector<Attempt> attempts_;
  std::map<std::string, bool> possible_;  ///< by attempt: outside of any sandbox
  std::map<std::string, std::uint32_t> alone_;
  std::size_t stopped_ = 0;
  std::size_t escaped_ = 0;
  std::size_t broken_ = 0;
};

}  // namespace aios::escape
