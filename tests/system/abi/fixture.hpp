// Programs on an instance: what the tests of libaios share.
#pragma once

#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>

#include <cstring>
#include <memory>
#include <string>

#include "abi/include/aios/aios.h"
#include "abi/include/aios/server.h"
#include "abi/include/aios/storage.h"
#include "abi/include/aios/tasks.h"
#include "abi/proto/echo.hpp"
#include "tests/support/test_instance.hpp"

namespace aios::test {

/// For what must come: a wake-up that is lost hangs, and does not pass by a deadline.
inline constexpr std::uint64_t long_ns = AIOS_FOREVER;

/// Fails the test with the library's explanation.
inline void ok(aios_code code) {
  if (code != AIOS_OK) FAIL((std::string(aios_code_name(code)) + ": " + aios_last_error()));
}

/// One instance for all tests of a program; those that kill servers wait until they are back.
TestInstance& the_instance();

struct Detach {
  void operator()(aios_instance* instance) const { aios_detach(instance); }
};
struct Close {
  void operator()(aios_service* service) const { aios_service_close(service); }
  void operator()(aios_server* server) const { aios_server_close(server); }
  void operator()(aios_region* region) const { aios_region_close(region); }
  void operator()(aios_storage* storage) const { aios_storage_close(storage); }
  void operator()(aios_tenant* tenant) const { aios_tenant_close(tenant); }
  void operator()(aios_call* call) const { aios_call_free(call); }
};
using Attached = std::unique_ptr<aios_instance, Detach>;
template <class T>
using Owned = std::unique_ptr<T, Close>;

/// Into a job of its own when it has a name.
Attached attach(const char* job = nullptr, TestInstance& instance = the_instance());
Owned<aios_service> connect(aios_instance* instance, const char* name, std::uint64_t version);
/// The echo server.
Owned<aios_service> connect_echo(aios_instance* instance);
Owned<aios_server> serve(aios_instance* instance, const char* label, std::uint64_t version = 1);
Owned<aios_region> create_region(aios_instance* instance, std::uint64_t size_bytes);

using Echo = proto::echo::Echo;
using Hold = proto::echo::Hold;
using Release = proto::echo::Release;

/// A call of the echo server that stays unanswered until somebody releases `key`.
Owned<aios_call> hold(aios_service* echo, std::uint64_t key, std::uint64_t timeout_ns = long_ns);
/// How many it released.
std::uint64_t release(aios_service* echo, std::uint64_t key);
/// A blocking echo of `value`; what came back.
std::uint64_t echo_once(aios_service* echo, std::uint64_t value);

aios_wait_item wait_item(aios_call* call);

}  // namespace aios::test
