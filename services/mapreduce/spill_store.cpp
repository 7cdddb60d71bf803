#include "services/mapreduce/spill_store.hpp"

#include <utility>

#include "abi/runtime/log.hpp"

namespace aios::mapreduce {

namespace {

namespace wire = proto::storage;

constexpr std::uint64_t short_call_ns = 10 * ns_per_s;
/// A run goes to a disk that others use as well.
constexpr std::uint64_t transfer_ns = 120 * ns_per_s;

}  // namespace

SpillStore::SpillStore(Kernel& kernel, EventLoop& loop, Handle port)
    : client_(kernel, &loop, port, wire::Protocol::version, wire::Protocol::name) {
  client_.on_disconnect([this] { ++connection_; });
}

void SpillStore::attach(StoredRegionPointer region,
                        std::move_only_function<void(Result<std::uint32_t>)> done) {
  if (region->connection == connection_) return done(region->id);
  region->attaching.push_back(std::move(done));
  if (region->attaching.size() > 1) return;
  constexpr std::uint32_t use = rights::info | rights::map_read | rights::map_write;
  client_.start_with_handles<wire::AttachRegion>(
      {0, 1}, {{region->handle, ObjectType::region, use, 0, false}},
      [](std::span<const Handle> numbers, wire::AttachRegion::Request& request) {
        request.region = numbers.front();
      },
      Deadline::after(short_call_ns),
      [this, region](const Result<wire::AttachRegion::Reply>& reply) {
        Result<std::uint32_t> id = error(Code::internal);
        if (reply) {
          region->connection = connection_;
          region->id = reply->region;
          id = reply->region;
        } else {
          id = std::unexpected(reply.error());
        }
        for (auto& waiting : std::exchange(region->attaching, {})) waiting(id);
      });
}

template <class M>
void SpillStore::transfer(StoredRegionPointer region, const typename M::Request& request,
                          std::move_only_function<void(Result<typename M::Reply>)> done,
                          std::uint32_t retries) {
  auto ended = [this, region, request, done = std::move(done), retries,
                began = connection_](Result<typename M::Reply> reply) mutable {
    if (!reply && reply.error().code() == Code::not_found && began != connection_)
      return transfer<M>(std::move(region), request, std::move(done), retries);
    if (!reply && reply.error().code() == Code::peer_closed && retries != 0) {
      region->connection = 0;  // on_disconnect comes only after the calls that were in flight
      return transfer<M>(std::move(region), request, std::move(done), retries - 1);
    }
    done(std::move(reply));
  };
  attach(region, [this, request, ended = std::move(ended)](Result<std::uint32_t> id) mutable {
    if (!id) return ended(std::unexpected(id.error()));
    typename M::Request complete = request;
    complete.region = *id;
    client_.start<M>(complete, Deadline::after(transfer_ns), std::move(ended));
  });
}

void SpillStore::remove_all(const std::string& prefix, std::uint32_t retries) {
  client_.start<wire::RemovePrefix>(
      {wire::ObjectName::from(prefix)}, Deadline::after(short_call_ns),
      [this, prefix, retries](const Result<wire::RemovePrefix::Reply>& reply) {
        if (reply) return;
        if (reply.error().code() == Code::peer_closed && retries != 0)
          return remove_all(prefix, retries - 1);
        log_line("spilled runs are left over under " + prefix + ": " + reply.error().to_string());
      });
}

void SpillStore::detach(const StoredRegion& region) {
  if (region.connection != connection_) return;
  client_.start<wire::DetachRegion>({region.id}, Deadline::after(short_call_ns),
                                    [](const Result<proto::Empty>&) {});
}

template void SpillStore::transfer<SpillStore::Put>(
    StoredRegionPointer, const Put::Request&, std::move_only_function<void(Result<Put::Reply>)>,
    std::uint32_t);
template void SpillStore::transfer<SpillStore::Get>(
    StoredRegionPointer, const Get::Request&, std::move_only_function<void(Result<Get::Reply>)>,
    std::uint32_t);

}  // namespace aios::mapreduce
