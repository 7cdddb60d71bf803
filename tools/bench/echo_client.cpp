#include "tools/bench/echo_client.hpp"

#include <vector>

#include "abi/proto/echo.hpp"
#include "abi/proto/supervisor.hpp"
#include "abi/runtime/time.hpp"

namespace aios::bench {

namespace wire = proto::echo;

namespace {

constexpr std::uint64_t timeout_ns = 20 * ns_per_s;

Result<void> done(aios_code code) {
  if (code == AIOS_OK) return {};
  return error(static_cast<Code>(code), aios_last_error());
}

}  // namespace

Result<EchoClient> EchoClient::connect(const std::string& socket, const std::string& name,
                                       Spin spin) {
  EchoClient client;
  aios_attach_options options{};
  options.socket_path = socket.c_str();
  options.flags = spin == Spin::never ? AIOS_ATTACH_NEVER_SPIN : 0;
  aios_instance* instance = nullptr;
  TRY(done(aios_attach(&options, &instance)));
  client.instance_.reset(instance);
  aios_service* service = nullptr;
  TRY(done(aios_connect(instance, name.c_str(), wire::Protocol::version, &service)));
  client.service_.reset(service);
  TRY(client.null_call());
  return client;
}

template <class M>
Result<typename M::Reply> EchoClient::call(aios_service* service,
                                           const typename M::Request& request) {
  typename M::Reply reply;
  TRY(done(aios_call_method(service, M::opcode, &request, sizeof request, &reply, sizeof reply,
                            timeout_ns)));
  return reply;
}

Result<void> EchoClient::null_call() {
  TRY(call<proto::Null>(service_.get(), {}));
  return {};
}

Result<void> EchoClient::batch(std::size_t count) {
  std::vector<Owned<aios_call>> calls;
  calls.reserve(count);
  const proto::Empty request{};
  for (std::size_t i = 0; i < count; ++i) {
    aios_call* started = nullptr;
    TRY(done(aios_call_start(service_.get(), proto::Null::opcode, &request, sizeof request,
                             timeout_ns, &started)));
    calls.emplace_back(started);
  }
  for (const Owned<aios_call>& one : calls) {
    aios_wait_item item{};
    item.kind = AIOS_WAIT_CALL;
    item.what.call = one.get();
    TRY(done(aios_wait(&item, 1, AIOS_FOREVER)));
    proto::Empty reply;
    TRY(done(aios_call_result(one.get(), &reply, sizeof reply)));
  }
  return {};
}

Result<void> EchoClient::create_region(std::uint64_t bytes) {
  region_.reset();
  aios_region* region = nullptr;
  TRY(done(aios_region_create(instance_.get(), bytes, "bench", 0, &region)));
  region_.reset(region);
  return {};
}

Result<std::uint64_t> EchoClient::attach_region() {
  std::uint64_t handle = 0;
  TRY(done(aios_grant(service_.get(), region_.get(), AIOS_GRANT_READ, timeout_ns, &handle)));
  return TRY(call<wire::Attach>(service_.get(), {handle})).region;
}

Result<void> EchoClient::detach_region(std::uint64_t region) {
  TRY(call<wire::Detach>(service_.get(), {region}));
  return {};
}

Result<void> EchoClient::read_region(std::uint64_t region, std::uint64_t offset,
                                     std::uint64_t length) {
  TRY(call<wire::Read>(service_.get(), {region, offset, length}));
  return {};
}

Result<pid_t> EchoClient::server_pid(const std::string& name) {
  namespace ps = proto::supervisor;
  aios_service* opened = nullptr;
  TRY(done(aios_connect(instance_.get(), ps::Protocol::name, ps::Protocol::version, &opened)));
  const Owned<aios_service> supervisor(opened);
  for (std::uint32_t i = 0, count = 1; i < count; ++i) {
    const auto server = TRY(call<ps::Server>(supervisor.get(), {i}));
    if (server.server.view() == name) return static_cast<pid_t>(server.pid);
    count = server.count;
  }
  return error(Code::not_found, "the instance has no server called " + name);
}

}  // namespace aios::bench
