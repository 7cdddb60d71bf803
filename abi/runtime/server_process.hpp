// What every server of AIOS does first: greet the kernel, find its port and its options, run a loop
// that ends at SIGTERM.
#pragma once

#include <memory>
#include <string>

#include "abi/runtime/client.hpp"
#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/in_flight.hpp"
#include "abi/runtime/kernel.hpp"

namespace aios {

struct ServerProcess {
  std::unique_ptr<Kernel> kernel;
  std::unique_ptr<EventLoop> loop;  ///< stops at SIGTERM
  Handle port = 0;                  ///< startup handle `port`: accept here
  std::string state;                ///< --state DIR
  std::string libexec;              ///< --libexec DIR
  std::string require;              ///< --require NAMES: protections that the manifest insists on
  bool crashed = false;             ///< --crashed: the last life ended by its own doing

  /// Reads `--state DIR --libexec DIR --require NAMES`, and `--spin never`, with which the loop
  /// sleeps at once when nothing is there; other arguments are left to the caller.
  static Result<ServerProcess> start(int argc, char** argv);
  /// Where requests in flight are noted, so that the next life knows them; made with the first
  /// life, in the server's own job. For ServerBase::guard_by.
  Result<InFlight*> in_flight();
  /// A client of the server called `service`, by the route of that name. not_found without one.
  Result<std::unique_ptr<Client>> client_of(const std::string& service,
                                            std::uint64_t protocol_version);
  /// Runs the loop to its end; 0 after SIGTERM or when the kernel ended the instance.
  int run();

 private:
  Fd signals_;
  Region in_flight_memory_;
  std::unique_ptr<InFlight> in_flight_;
};

/// For main(): runs `body(argc, argv)`, logs its error and turns it into an exit code.
int server_main(int argc, char** argv, Result<int> (*body)(int, char**));

}  // namespace aios
