// GET /metrics, by libmicrohttpd. One request at a time is worked on and its connection closed; 256
// may be connected, each for ten seconds without a word. Who reaches the port may so keep others
// from it: it is for trusted networks, as what it tells is.
#pragma once

#include <optional>
#include <string>

#include "abi/runtime/fd.hpp"
#include "tools/aiosctl/watch/snapshot.hpp"

namespace aios::metrics {

/// A socket that listens at "PORT" of 127.0.0.1, or at "ADDRESS:PORT", "[ADDRESS]:PORT"; port 0:
/// any that is free. invalid_argument: no such address; else what Linux says.
Result<Fd> listen_at(const std::string& address);
/// "127.0.0.1:9464", "[::1]:9464"
Result<std::string> address_of(const Fd& socket);

class Listener {
 public:
  /// From now on, until the program ends, requests are answered in a thread of its own. While no
  /// instance answers at `session` they are told so, with 503.
  static Result<void> start(Fd socket, ctl::Session session);
  Listener(const Listener&) = delete;

  struct Answer {
    unsigned status;
    const char* type;
    std::string text;
  };
  Answer answer(std::string_view method, std::string_view path);

 private:
  explicit Listener(ctl::Session session) : session_(std::move(session)) {}
  Result<ctl::Snapshot> look();

  ctl::Session session_;
  std::optional<ctl::Watcher> watcher_;  ///< of the instance that answered last
};

}  // namespace aios::metrics
