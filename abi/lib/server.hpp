// The object behind aios_server: the server side of links, for a program without a loop of ours.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "abi/include/aios/server.h"
#include "abi/lib/core.hpp"
#include "abi/runtime/server.hpp"

namespace aios::lib {

/// A request as it came.
struct Incoming {
  ReplyToken token;
  PeerInfo peer;
  std::vector<std::byte> payload;
};

/// Accepts connections, answers null calls, and queues the rest.
class Listener final : public ServerBase {
 public:
  using ServerBase::accept_all;
  using ServerBase::ServerBase;

  std::deque<Incoming>& requests() { return requests_; }
  /// peer_closed when nobody waits for it any more.
  Result<void> answer(ReplyToken token, std::span<const std::byte> reply);
  Result<void> refuse(ReplyToken token, const Status& why);

 private:
  void dispatch(ClientId client, Peer& peer, const Message& message) override;
  void opened(ClientId, const PeerInfo&) override {}
  void closed(ClientId client) override;

  std::deque<Incoming> requests_;
};

}  // namespace aios::lib

struct aios_server final : aios::lib::Endpoint {
  static aios::Result<std::shared_ptr<aios_server>> create(
      const std::shared_ptr<aios::lib::Core>& core, const char* label, std::uint64_t version);
  using Endpoint::Endpoint;
  ~aios_server() override { close(); }

  /// Ends all connections; what is answered later goes nowhere.
  void close();
  bool has_request() const { return listener_ != nullptr && !listener_->requests().empty(); }
  std::optional<aios::lib::Incoming> take_request();
  /// peer_closed once closed.
  aios::Result<aios::lib::Listener*> listener();
  /// A reply was given: its client is rung.
  void replied();

  bool ready() const override;
  int bell_fd() const override { return loop_ != nullptr ? loop_->fd() : -1; }
  void drain_bell() override {}  // the loop does when it works
  bool wants_signals() const override { return listener_ != nullptr; }
  aios::Deadline next_deadline() const override {
    return loop_ != nullptr ? loop_->next_timer() : aios::Deadline::never();
  }
  void kernel_lost() override { changed(); }

  /// The caller's share; requests that are not answered yet have theirs.
  std::shared_ptr<aios_server> self;

 private:
  bool work() override;
  const void* connection() const override { return loop_.get(); }
  /// already_exists: a living program of the job has it.
  aios::Result<void> take_lease(const char* label);

  aios::Handle lease_ = 0;  ///< on the label, against other programs of the job
  std::string label_;       ///< once it is kept
  aios::Handle port_ = 0;
  bool own_port_ = false;  ///< not one that the job had kept
  std::uint64_t seen_signals_ = 0;
  std::unique_ptr<aios::EventLoop> loop_;  ///< holds the bells of all connections
  std::unique_ptr<aios::lib::Listener> listener_;
};

struct aios_request {
  std::shared_ptr<aios_server> server;
  aios::lib::Incoming incoming;
};
