// A real instance with aios-storage as its only server, and calls to it that wait.
#pragma once

#include <doctest/doctest.h>
#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "abi/proto/storage.hpp"
#include "abi/runtime/client.hpp"
#include "abi/runtime/kernel.hpp"
#include "tests/protocol/kernel/harness.hpp"

namespace aios::storage::test {

namespace wire = proto::storage;

/// How long an event may take before a test counts as hung.
inline constexpr std::uint64_t patience_ns = 30 * ns_per_s;

class Instance {
 public:
  /// `arguments` of aios-storage, as they stand in a manifest's list.
  explicit Instance(const std::string& arguments = {});
  ~Instance();

  /// A new attachment, its startup handles including `storage`.
  std::unique_ptr<Kernel> attach() const;
  /// Of the storage process that lives now.
  pid_t storage_pid(Kernel& kernel) const;
  std::filesystem::path state() const { return folder_.path(); }
  std::string storage_log() const;

 private:
  aios::test::TemporaryFolder folder_;
  std::unique_ptr<aios::test::Program> kernel_;
};

/// One connection to storage in a loop of its own.
class Connection {
 public:
  explicit Connection(const Instance& instance);

  Kernel& kernel() { return *kernel_; }
  EventLoop& loop() { return *loop_; }
  Client& client() { return *client_; }

  template <class M>
  Result<typename M::Reply> call(const typename M::Request& request) {
    std::optional<Result<typename M::Reply>> answer;
    client_->start<M>(request, Deadline::after(patience_ns), [&](Result<typename M::Reply> reply) {
      answer = std::move(reply);
      end_turn();
    });
    while (!answer) turn();
    return *std::move(answer);
  }
  /// Waits until something happens.
  void turn() { REQUIRE(loop_->turn(Deadline::after(patience_ns))); }
  /// For callbacks: a turn goes to sleep after them unless more is to be done.
  void end_turn() {
    loop_->post([] {});
  }

  /// Sends the region's handle with these rights and attaches it.
  Result<std::uint32_t> attach(const Region& region, bool writable,
                               std::uint32_t use = rights::map_read | rights::map_write);

 private:
  std::unique_ptr<Kernel> kernel_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Client> client_;
};

}  // namespace aios::storage::test
