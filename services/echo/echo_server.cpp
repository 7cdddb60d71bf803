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

namespace {

std::uint64_t sum_of(std::span<const std::byte> bytes) {
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at + sizeof sum <= bytes.size(); at += sizeof sum) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    sum += word;
  }
  return sum;
}

}  // namespace

/// A region that this client sent, mapped for reading.
Result<Region> EchoServer::receive(Handle handle, std::uint64_t most_bytes,
                                   const CallContext& context) {
  const auto info =
      TRY(received_handle(kernel_, handle, context.peer().process_id, {ObjectType::region}));
  if (info.detail > most_bytes) {
    kernel_.close(handle);
    return error(Code::too_large,
                 "the region is larger than " + std::to_string(most_bytes >> 20) + " MiB");
  }
  return Region::map(kernel_, handle, Mapping::Access::read);
}

Answer<wire::Sum::Reply> EchoServer::handle(wire::Sum, const wire::Sum::Request& request,
                                            CallContext& context) {
  const Region region = TRY(receive(request.region, max_sum_bytes, context));
  return wire::Sum::Reply{sum_of(region.bytes())};
}

Answer<wire::Attach::Reply> EchoServer::handle(wire::Attach, const wire::Attach::Request& request,
                                               CallContext& context) {
  const auto mine = attached_.lower_bound({context.client(), 0});
  std::uint32_t count = 0;
  for (auto at = mine; at != attached_.end() && at->first.first == context.client(); ++at) ++count;
  if (count >= wire::max_attached_regions || attached_.contains({context.client(), request.region}))
    return error(Code::quota, "a client may attach 4 regions, each by a handle of its own");
  attached_.emplace(std::pair(context.client(), request.region),
                    TRY(receive(request.region, max_attached_bytes, context)));
  return wire::Attach::Reply{request.region};
}

Answer<wire::Read::Reply> EchoServer::handle(wire::Read, const wire::Read::Request& request,
                                             CallContext& context) {
  const auto found = attached_.find({context.client(), request.region});
  if (found == attached_.end()) return error(Code::not_found, "no such region is attached");
  const std::span<const std::byte> bytes = found->second.bytes();
  if (request.length > bytes.size() || request.offset > bytes.size() - request.length ||
      request.length % sizeof(std::uint64_t) != 0)
    return error(Code::invalid_argument, "the range is not whole words within the region");
  return wire::Read::Reply{sum_of(bytes.subspan(request.offset, request.length))};
}

Answer<proto::Empty> EchoServer::handle(wire::Detach, const wire::Detach::Request& request,
                                        CallContext& context) {
  if (attached_.erase({context.client(), request.region}) == 0)
    return error(Code::not_found, "no such region is attached");
  return proto::Empty{};
}

void EchoServer::client_closed(ClientId client) {
  std::erase_if(held_, [client](const auto& held) { return held.second.client == client; });
  std::erase_if(attached_, [client](const auto& entry) { return entry.first.first == client; });
}

}  // namespace aios::echo
