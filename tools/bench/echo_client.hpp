// The echo server through libaios, as any program calls it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "abi/include/aios/aios.h"
#include "abi/runtime/status.hpp"

namespace aios::bench {

enum class Spin { adaptive, never };

class EchoClient {
 public:
  /// An attachment of its own to the instance at `socket`, connected to the server called `name`.
  static Result<EchoClient> connect(const std::string& socket, const std::string& name, Spin spin);

  Result<void> null_call();
  /// `count` null calls on their way at once, all answered.
  Result<void> batch(std::size_t count);

  /// A region to be granted; replaces an earlier one.
  Result<void> create_region(std::uint64_t bytes);
  /// Sends the region to the server, which maps it: its number there.
  Result<std::uint64_t> attach_region();
  Result<void> detach_region(std::uint64_t region);
  /// The server reads `length` bytes of the region.
  Result<void> read_region(std::uint64_t region, std::uint64_t offset, std::uint64_t length);

  /// The process that serves under this name, by the supervisor's word.
  Result<pid_t> server_pid(const std::string& name);

 private:
  struct Close {
    void operator()(aios_instance* instance) const { aios_detach(instance); }
    void operator()(aios_service* service) const { aios_service_close(service); }
    void operator()(aios_region* region) const { aios_region_close(region); }
    void operator()(aios_call* call) const { aios_call_free(call); }
  };
  template <class T>
  using Owned = std::unique_ptr<T, Close>;

  template <class M>
  Result<typename M::Reply> call(aios_service* service, const typename M::Request& request);

  Owned<aios_instance> instance_;
  Owned<aios_service> service_;
  Owned<aios_region> region_;
};

}  // namespace aios::bench
