// One driver, seen from the scheduler: its devices and their contexts. All calls are asynchronous.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "abi/proto/device.hpp"
#include "abi/runtime/client.hpp"

namespace aios::scheduler {

class Driver {
 public:
  using Device = proto::driver::Device::Reply;
  using Absent = proto::driver::Absent::Reply;
  using OpenContext = proto::driver::OpenContext;

  /// `changed` is called whenever the devices were asked for, or the driver went away.
  /// `name` is its server's.
  Driver(EventLoop& loop, std::string name, std::unique_ptr<Client> client,
         std::function<void()> changed);
  Driver(const Driver&) = delete;
  ~Driver();

  /// Asks for all devices, again and again until the driver answers; and anew when it comes back.
  void discover();
  /// Asks once more and calls `done` when that is over, whatever came of it.
  void refresh(std::function<void()> done);

  bool is_up() const { return up_; }
  /// At least once, with all its devices.
  bool has_answered() const { return has_answered_; }
  /// Its supervisor does not start it any more, as far as is known.
  bool is_given_up() const { return given_up_; }
  const std::string& name() const { return name_; }
  /// As last seen: a driver that went away keeps its devices.
  const std::vector<Device>& devices() const { return devices_; }
  /// What it looked for and did not find; of one that does not answer, that.
  const std::vector<Absent>& absent() const { return absent_; }

  /// Shows `job` to the driver. peer_closed and timed_out when it is not there. Not answered when
  /// this object goes first.
  void open_context(Handle job, std::uint64_t device,
                    std::function<void(const Result<OpenContext::Reply>&)> done);
  void close_context(std::uint64_t job_id, std::uint64_t device,
                     std::function<void(const Result<proto::Empty>&)> done);

 private:
  void ask(std::uint64_t index, std::uint64_t timeout_ns);
  void answered(std::uint64_t index, const Result<Device>& reply, std::uint64_t timeout_ns);
  void ask_absent(std::uint64_t index, std::uint64_t timeout_ns);
  void answered_absent(std::uint64_t index, const Result<Absent>& reply, std::uint64_t timeout_ns);
  void end_round(const Result<void>& outcome);
  void is_away(const std::string& why);

  EventLoop& loop_;
  const std::string name_;
  std::function<void()> changed_;
  bool up_ = false;
  bool has_answered_ = false;
  bool given_up_ = false;
  bool asking_ = false;
  bool closed_ = false;
  std::vector<Device> devices_;
  std::vector<Absent> absent_;
  std::vector<Absent> found_absent_;  ///< in the round that is under way
  std::vector<std::function<void()>> waiting_;
  TimerId retry_ = 0;
  std::unique_ptr<Client> client_;  // last: its end calls back into the above
};

}  // namespace aios::scheduler
