#include "services/scheduler/trainer/trainer_server.hpp"

#include <cstring>
#include <utility>

namespace aios::scheduler::trainer {

namespace wire = proto::trainer;

TrainerServer::TrainerServer(Kernel& kernel, EventLoop& loop,
                             Result<std::unique_ptr<Booster>> booster)
    : kernel_(kernel),
      loop_(loop),
      booster_(std::move(booster)),
      server_(kernel, loop, *this),
      claims_(kernel) {}

Result<void> TrainerServer::prepare() {
  thread_ = TRY(TrainingThread::create(
      loop_, [this](TrainingThread::Outcome outcome) { ended(std::move(outcome)); }));
  return {};
}

Answer<wire::Library::Reply> TrainerServer::handle(wire::Library, const proto::Empty&,
                                                   CallContext&) {
  if (!booster_) return std::unexpected(booster_.error());
  return wire::Library::Reply{proto::Text<64>::from((*booster_)->name())};
}

Answer<wire::Train::Reply> TrainerServer::handle(wire::Train, const wire::Train::Request& request,
                                                 CallContext& call) {
  // Whatever comes of it, what was sent is closed.
  auto runs_sent = TRY(claims_.claim(request.runs, call.peer().process_id, {ObjectType::region},
                                     rights::map_read, 0));
  auto trees_sent = TRY(claims_.claim(request.trees, call.peer().process_id, {ObjectType::region},
                                      rights::map_read | rights::map_write, 0));
  if (!booster_) return std::unexpected(booster_.error());
  if (thread_->is_busy()) return error(Code::busy, "a training is under way");
  if (request.runs_bytes == 0 || request.runs_bytes > wire::max_runs_bytes ||
      request.runs_bytes > runs_sent.info.detail)
    return error(Code::invalid_argument, "runs are 1 byte to 4 MiB and lie within their region");
  if (trees_sent.info.detail > wire::max_trees_bytes)
    return error(Code::invalid_argument, "the region for trees is at most 4 MiB");
  std::vector<std::byte> copy;
  {
    const Mapping runs = TRY(map(runs_sent.handle.get(), request.runs_bytes, false));
    copy.assign(runs.data(), runs.data() + request.runs_bytes);
  }
  std::vector<KeyRuns> keys = TRY(read_runs(copy));
  Mapping trees = TRY(map(trees_sent.handle.get(), trees_sent.info.detail, true));
  TRY(thread_->begin(std::move(keys), **booster_, Deadline::after(wire::max_training_ns)));
  order_ = Order{call.token(), std::move(trees), std::move(trees_sent.handle)};
  return deferred;
}

Result<Mapping> TrainerServer::map(Handle region, std::uint64_t bytes, bool writable) {
  const auto opened = TRY(kernel_.call<proto::kernel::RegionMap>(
      {.region = region, .writable = writable ? 1u : 0u, .reserved = 0}));
  if (opened.fds.size() != 1) return error(Code::quota, "no descriptor left to map a region");
  return Mapping::map(opened.fds.front(), bytes,
                      writable ? Mapping::Access::read_write : Mapping::Access::read);
}

void TrainerServer::ended(TrainingThread::Outcome outcome) {
  const std::optional<Order> order = std::exchange(order_, std::nullopt);
  if (order) server_.reply<wire::Train>(order->token, deliver(outcome, order->trees));
}

Result<wire::Train::Reply> TrainerServer::deliver(const TrainingThread::Outcome& outcome,
                                                  const Mapping& trees) {
  const std::vector<std::byte> bytes = write_trained(outcome.keys);
  if (bytes.size() > trees.size())
    return error(Code::too_large, "the trees take " + std::to_string(bytes.size()) +
                                      " bytes, their region has " + std::to_string(trees.size()));
  std::memcpy(trees.data(), bytes.data(), bytes.size());
  return wire::Train::Reply{bytes.size(), outcome.cpu_ns};
}

void TrainerServer::client_closed(ClientId client) {
  if (!order_ || order_->token.client != client) return;
  order_.reset();
  thread_->stop();
}

}  // namespace aios::scheduler::trainer
