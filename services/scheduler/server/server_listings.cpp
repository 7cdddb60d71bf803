// What the server tells of tasks, placements, graphs, models and devices.
#include "services/scheduler/server/scheduler_server.hpp"

namespace aios::scheduler {

namespace wire = proto::scheduler;

namespace {

wire::ModelNext::Reply describe_model(const LearnedCosts::Row& row) {
  wire::ModelNext::Reply out{};
  out.bytes = row.features.bytes;
  out.footprint = row.features.footprint;
  out.time_mean_ns = row.estimate.time.mean;
  out.time_p95_ns = row.estimate.time.p95;
  out.memory_mean_bytes = row.estimate.memory.mean;
  out.memory_p95_bytes = row.estimate.memory.p95;
  out.samples = row.estimate.samples;
  out.level = static_cast<std::uint32_t>(row.estimate.level);
  out.log_error = row.log_error;
  out.drifts = row.drifts;
  out.module_hash = row.codelet->module_hash;
  out.user = row.codelet->user;
  out.codelet = decltype(out.codelet)::from(row.codelet->function);
  out.device = decltype(out.device)::from(row.device->name);
  return out;
}

}  // namespace

Answer<wire::TaskNext::Reply> SchedulerServer::handle(wire::TaskNext,
                                                      const wire::TaskNext::Request& request,
                                                      CallContext& call) {
  return core_.next_task(request.after, call.peer().uid, call.peer().is_operator());
}

Answer<wire::LoadNext::Reply> SchedulerServer::handle(wire::LoadNext,
                                                      const wire::LoadNext::Request& request,
                                                      CallContext& call) {
  return core_.next_load(request.after, call.peer().uid, call.peer().is_operator());
}

Answer<wire::TaskFailure::Reply> SchedulerServer::handle(wire::TaskFailure,
                                                         const wire::TaskFailure::Request& request,
                                                         CallContext& call) {
  const std::uint32_t uid = call.peer().uid;
  const bool all = call.peer().is_operator();
  using Text = decltype(wire::TaskFailure::Reply::text);
  if (const std::string* why = core_.failure_of(request.number, uid, all))
    return wire::TaskFailure::Reply{Text::from(*why)};
  const std::string awaited = core_.memory_awaited_by(request.number, uid, all);
  if (awaited.empty())
    return error(Code::not_found, "no failure of task " + std::to_string(request.number) +
                                      " is known: the last 1,024 finished tasks are");
  return wire::TaskFailure::Reply{Text::from(awaited)};
}

Answer<wire::PlacementNext::Reply> SchedulerServer::handle(
    wire::PlacementNext, const wire::PlacementNext::Request& request, CallContext& call) {
  const std::uint32_t uid = call.peer().uid;
  const bool all = call.peer().is_operator();
  const PlacementLog& log = core_.log();
  const PlacementLog::Entry* entry = request.number != 0 ? log.of_task(request.number, uid, all)
                                                         : log.next(request.after, uid, all);
  return entry == nullptr ? wire::PlacementNext::Reply{} : PlacementLog::describe(*entry);
}

Answer<wire::GraphNext::Reply> SchedulerServer::handle(wire::GraphNext,
                                                       const wire::GraphNext::Request& request,
                                                       CallContext& call) {
  const GraphLog::Entry* entry =
      core_.graphs().next(request.after, call.peer().uid, call.peer().is_operator());
  return entry == nullptr ? wire::GraphNext::Reply{} : *entry;
}

Answer<wire::ModelNext::Reply> SchedulerServer::handle(wire::ModelNext,
                                                       const wire::ModelNext::Request& request,
                                                       CallContext& call) {
  std::optional<wire::ModelNext::Reply> reply;
  std::uint64_t index = 0;
  if (models_ != nullptr)
    models_->for_each([&](const LearnedCosts::Row& row) {
      const bool visible = call.peer().is_operator() || row.codelet->user == call.peer().uid;
      if (visible && index++ == request.index) reply = describe_model(row);
    });
  if (reply) return *reply;
  return error(Code::not_found,
               models_ == nullptr ? "the policy in use learns nothing" : "no more models");
}

Answer<wire::TreesNext::Reply> SchedulerServer::handle(wire::TreesNext,
                                                       const wire::TreesNext::Request& request,
                                                       CallContext& call) {
  const TrainedKey* found =
      trees_ == nullptr ? nullptr
                        : trees_->at(request.index, call.peer().uid, call.peer().is_operator());
  if (found == nullptr) return error(Code::not_found, "no more trees");
  const auto& [key, report, trees] = *found;
  const LearnedCosts::TreesState state = models_->trees_state(key);
  wire::TreesNext::Reply out{};
  out.trees_mdape = report.trees_mdape;
  out.told_mdape = report.told_mdape;
  out.trees_error = report.trees_error;
  out.told_error = report.told_error;
  out.live_trees_error = state.trees_error;
  out.live_told_error = state.told_error;
  out.module_hash = key.codelet.module_hash;
  out.live_runs = state.runs;
  out.trained = report.trained;
  out.held_out = report.held_out;
  out.verdict = static_cast<std::uint32_t>(report.verdict);
  out.speaks = state.speak ? 1 : 0;
  out.memory = key.memory ? 1 : 0;
  out.user = key.codelet.user;
  out.codelet = decltype(out.codelet)::from(key.codelet.function);
  out.device = decltype(out.device)::from(key.device);
  return out;
}

Answer<wire::Training::Reply> SchedulerServer::handle(wire::Training, const proto::Empty&,
                                                      CallContext&) {
  if (trees_ != nullptr) return trees_->describe();
  wire::Training::Reply none{};
  none.text = decltype(none.text)::from(models_ == nullptr ? "the policy in use learns nothing"
                                                           : "the manifest routes to no trainer");
  return none;
}

Answer<wire::DeviceNext::Reply> SchedulerServer::handle(wire::DeviceNext,
                                                        const wire::DeviceNext::Request& request,
                                                        CallContext& call) {
  // Without a device yet, the first round of questions is waited for.
  Driver* driver = request.index < places_.size()         ? places_[request.index].driver
                   : places_.empty() && !drivers_.empty() ? drivers_.front().get()
                                                          : nullptr;
  if (driver == nullptr || (!places_.empty() && !driver->is_up()))
    return describe_device(request.index);
  driver->refresh([this, token = call.token(), index = request.index] {
    server_->reply<wire::DeviceNext>(token, describe_device(index));
  });
  return deferred;
}

Result<wire::DeviceNext::Reply> SchedulerServer::describe_device(std::uint64_t index) const {
  if (index >= places_.size())
    return error(Code::not_found, places_.empty() ? "no device is known: no driver has answered yet"
                                                  : "there is no device " + std::to_string(index));
  const DevicePlace& place = places_[index];
  const DeviceState& state = core_.devices()[index];
  wire::DeviceNext::Reply reply{};
  reply.device = place.driver->devices()[place.index];
  reply.device.count = static_cast<std::uint32_t>(places_.size());
  if (!place.driver->is_up())
    reply.device.health = static_cast<std::uint32_t>(proto::driver::Health::failed);
  reply.tasks_done = state.tasks_done;
  reply.tasks_failed = state.tasks_failed;
  reply.busy_ns = state.busy_ns;
  if (const CopyCosts* costs = core_.copy_costs(static_cast<DeviceId>(index))) {
    reply.copies = costs->samples();
    const TransferCost ways[] = {costs->to_device(), costs->to_host()};
    for (int way = 0; way < 2; ++way) {
      reply.copy_latency_ns[way] = static_cast<float>(ways[way].latency_ns);
      reply.copy_ns_per_mib[way] = static_cast<float>(ways[way].ns_per_byte * (1u << 20));
    }
  }
  return reply;
}

Answer<wire::AbsentNext::Reply> SchedulerServer::handle(wire::AbsentNext,
                                                        const wire::AbsentNext::Request& request,
                                                        CallContext&) {
  std::uint64_t count = 0;
  const Driver::Absent* found = nullptr;
  for (const auto& driver : drivers_)
    for (const Driver::Absent& absent : driver->absent())
      if (count++ == request.index) found = &absent;
  wire::AbsentNext::Reply reply{};
  if (count == 0 && request.index == 0) return reply;
  if (found == nullptr)
    return error(Code::not_found, "there is no absence " + std::to_string(request.index));
  reply.absent = *found;
  reply.absent.count = count;
  return reply;
}

}  // namespace aios::scheduler
