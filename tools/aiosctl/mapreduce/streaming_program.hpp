// One attempt of a mapper or reducer under Hadoop's Streaming contract: lines in at standard input,
// "key\tvalue" lines out at standard output; at standard error lines that begin with "reporter:"
// count or say how it is getting on, and all others are for people.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"

namespace aios::ctl {

/// What a program has said at standard error.
class StreamingReports {
 public:
  static constexpr std::size_t max_counters = 1000;

  /// The next bytes of it, however they are cut.
  void take(std::string_view bytes);
  /// Of "reporter:counter:GROUP,NAME,AMOUNT", as "GROUP.NAME". What is above the limit is dropped.
  const std::map<std::string, std::int64_t>& counters() const { return counters_; }
  /// Of the last "reporter:status:TEXT".
  const std::string& status() const { return status_; }
  /// The last line that is not empty and no report, with what is not ended yet; cut if it is long.
  std::string last_line() const;

 private:
  void line(std::string_view text);
  void count(std::string_view text);

  std::string pending_;
  std::string last_line_;
  std::string status_;
  std::map<std::string, std::int64_t> counters_;
};

class StreamingProgram {
 public:
  /// Starts `sh -c COMMAND` locked in (profile `streaming`): it sees the system's programs and
  /// `files`, and reaches no socket. It reads `input` and writes `output` from where these are.
  /// Ends with this object or this process. not_found, not_supported: as start_confined.
  static Result<StreamingProgram> start(const std::string& command,
                                        const std::vector<std::string>& files,
                                        const std::map<std::string, std::string>& environment,
                                        const Fd& input, const Fd& output);
  StreamingProgram(StreamingProgram&& other) noexcept;
  StreamingProgram& operator=(StreamingProgram&&) = delete;
  ~StreamingProgram();

  /// Readable when it has ended.
  int ended_fd() const { return pidfd_.get(); }
  /// Readable when it has said something.
  int errors_fd() const { return errors_.get(); }
  /// Takes what it has said so far.
  void read_errors();
  /// Of one that has ended: its exit code, or 128 and the signal's number.
  int finish();
  const StreamingReports& reports() const { return reports_; }

 private:
  StreamingProgram() = default;

  pid_t pid_ = 0;
  Fd pidfd_;
  Fd errors_;
  StreamingReports reports_;
};

}  // namespace aios::ctl
