#include "services/echo/echo_server.hpp"

#include <cstring>

#include "abi/runtime/handle_claims.hpp"

namespace aios::echo {

namespace wire = proto::echo;

EchoServer::EchoServer(Kernel& kernel, EventLoop& loop)
    : kernel_(kernel), server_(kernel, loop, *this) {}

Answer<wire::Echo::Reply> EchoServer::handle(wire::Echo, const wire::Echo::Request& request,
                                             CallContext&) {
  return request;
}

Answer<proto::Empty> EchoServer::handle(wire::Hold, const wire::Hold::Request& request,
                                        CallContext& context) {
  if (held_.size() >= max_held) return error(Code::quota, "too many calls are held already");
  held_.emplace(request.key, context.token());
  return deferred;
}

Answer<wire::Release::Reply> EchoServer::handle(wire::Release,
                                                const wire::Release::Request& request,
                                                CallContext&) {
  const auto [begin, end] = held_.equal_range(request.key);
  std::uint64_t released = 0;
  for (auto held = begin; held != end; ++held, ++released)
    server_.reply<wire::Hold>(held->second, proto::Empty{});
  held_.erase(begin, end);
  return wire::Release::Reply{released};
}

Answer<wire::Sum::Reply> EchoServer::handle(wire::Sum, const wire::Sum::Request& request,
                                            CallContext& context) {
  const auto info = TRY(
      received_handle(kernel_, request.region, context.peer().process_id, {ObjectType::region}));
  if (info.detail > max_sum_bytes) {
    kernel_.close(request.region);
    return error(Code::too_large, "the region is larger than 64 MiB");
  }
  Result<Region> region = Region::map(kernel_, request.region, Mapping::Access::read);
  if (!region) return std::unexpected(std::move(region).error());
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at + sizeof sum <= region->size(); at += sizeof sum) {
    std::uint64_t word = 0;
    std::memcpy(&word, region->data() + at, sizeof word);
    sum += word;
  }
  return wire::Sum::Reply{sum};
}

void EchoServer::client_closed(ClientId client) {
  std::erase_if(held_, [client](const auto& held) { return held.second.client == client; });
}

}  // namespace aios::echo
