#include "services/scheduler/server/scheduler_server.hpp"

#include <algorithm>
#include <cstring>

#include "abi/runtime/log.hpp"

namespace aios::scheduler {

namespace wire = proto::scheduler;

namespace {

/// How long the devices of a driver wait for those of the drivers before it.
constexpr std::uint64_t in_order_for_ns = ns_per_s;
/// How long tasks that no device runs wait for drivers that have not answered, and what was learned
/// of devices before waits for these. A GPU driver looks for 20 s where a library hangs.
constexpr std::uint64_t drivers_answer_within_ns = 60 * ns_per_s;

/// Of the very device, so that what was learned is not taken for another that has its place now.
std::string identity_of(const Driver::Device& device) {
  const std::string uuid(device.uuid.view());
  return std::string(device.backend.view()) + " " +
         (uuid.empty() ? std::string(device.model.view()) : uuid);
}

bool lies_within(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return length <= size && offset <= size - length;
}

}  // namespace

SchedulerServer::SchedulerServer(Kernel& kernel, EventLoop& loop, Policy policy)
    : kernel_(kernel),
      loop_(loop),
      claims_(kernel),
      models_(policy.placement->looks_ahead() ? new LearnedCosts : nullptr),
      core_(std::move(policy.order), std::move(policy.placement), std::unique_ptr<Costs>(models_)),
      pool_(
          kernel, loop, core_, resources_, claims_,
          [this](DeviceId device) { return locate(device); }, [this] { changed(); },
          [this] { decide_later(); }) {
  silence_timer_ = loop_.after(drivers_answer_within_ns, [this] {
    drivers_are_late_ = true;
    adopt_devices();
  });
}

// ---- tenants ----------------------------------------------------------------------------------

Result<JobId> SchedulerServer::job_of(const CallContext& call, std::uint32_t tenant) {
  const auto link = links_.find(call.client());
  if (link != links_.end())
    if (const auto at = link->second.tenants.find(tenant); at != link->second.tenants.end())
      return at->second.job;
  return error(Code::not_found, "no tenant " + std::to_string(tenant) + " is open on this link");
}

Answer<wire::OpenTenant::Reply> SchedulerServer::handle(wire::OpenTenant,
                                                        const wire::OpenTenant::Request& request,
                                                        CallContext& call) {
  if (request.job == 0)
    return error(Code::invalid_argument, "send the handle of the job that the tasks are for");
  Opening opening{call.token(), {call.peer().process_id, request.session}, {}};
  opening.job = TRY(claims_.claim(request.job, call.peer().process_id, {ObjectType::job},
                                  rights::act | rights::send, rights::info | rights::act));
  end_session(opening.session);
  if (!is_there(opening.session)) return TRY(open(std::move(opening)));
  openings_.push_back(std::move(opening));
  return deferred;
}

Result<wire::OpenTenant::Reply> SchedulerServer::open(Opening opening) {
  LinkState& link = links_[opening.token.client];
  if (link.tenants.size() >= max_tenants_per_link)
    return error(Code::quota, "a link may have 64 tenants open; close some");
  const HandleClaims::Info& job = opening.job.info;
  // Of whom the work is: the client may be a service that does it on behalf of another.
  const auto uid = static_cast<std::uint32_t>(job.detail);
  const TenantId tenant = TRY(core_.open_tenant(job.object_id, job.name.view(), uid));
  resources_.add_job(job.object_id, std::move(opening.job.handle));
  if (const auto known = kernel_.call<proto::kernel::JobInfo>({resources_.job(job.object_id)}))
    core_.set_memory_quota(job.object_id, known->reply.quota.memory_bytes);
  link.tenants[tenant] = {job.object_id, false};
  if (opening.session.number != 0) sessions_[tenant] = opening.session;
  return wire::OpenTenant::Reply{tenant, 0};
}

/// Closes what was opened by its name: the link may not be known as broken yet.
void SchedulerServer::end_session(const Session& session) {
  std::vector<TenantId> earlier;
  for (auto& [client, link] : links_)
    for (const auto& [tenant, state] : link.tenants)
      if (const auto of = sessions_.find(tenant); of != sessions_.end() && of->second == session)
        earlier.push_back(tenant);
  for (const TenantId tenant : earlier) {
    for (auto& [client, link] : links_) link.tenants.erase(tenant);
    close(tenant);
  }
}

/// Also one that is closed, while tasks of it run.
bool SchedulerServer::is_there(const Session& session) const {
  return std::ranges::any_of(sessions_, [&](const auto& one) { return one.second == session; });
}

void SchedulerServer::answer_openings() {
  for (std::size_t i = 0; i < openings_.size();) {
    if (is_there(openings_[i].session)) {
      ++i;
      continue;
    }
    Opening opening = std::move(openings_[i]);
    openings_.erase(openings_.begin() + static_cast<std::ptrdiff_t>(i));
    const ReplyToken token = opening.token;
    server_->reply<wire::OpenTenant>(token, open(std::move(opening)));
  }
}

Answer<proto::Empty> SchedulerServer::handle(wire::CloseTenant,
                                             const wire::CloseTenant::Request& request,
                                             CallContext& call) {
  TRY(job_of(call, request.tenant));
  links_[call.client()].tenants.erase(request.tenant);
  waiters_[request.tenant].closed = std::make_unique<ReplyToken>(call.token());
  close(request.tenant);
  return deferred;
}

void SchedulerServer::close(TenantId tenant) {
  if (const auto waiter = std::exchange(waiters_[tenant].completions, std::nullopt))
    server_->reply<wire::Completions>(waiter->token,
                                      error(Code::cancelled, "the tenant was closed"));
  core_.close_tenant(tenant);
  changed();
}

void SchedulerServer::client_closed(ClientId client) {
  std::erase_if(openings_, [&](const Opening& one) { return one.token.client == client; });
  const auto link = links_.find(client);
  if (link == links_.end()) return;
  const auto tenants = std::move(link->second.tenants);
  links_.erase(link);
  for (const auto& [tenant, state] : tenants) close(tenant);
}

void SchedulerServer::forget_tenant(TenantId tenant, JobId job) {
  for (const std::uint32_t buffer : resources_.drop_tenant(job, tenant))
    pool_.release_buffer(job, buffer);
  pool_.drop_tenant(job, tenant);
  const auto waiters = waiters_.extract(tenant);
  if (!waiters.empty() && waiters.mapped().closed != nullptr)
    server_->reply<wire::CloseTenant>(*waiters.mapped().closed, proto::Empty{});
  sessions_.erase(tenant);
}

// ---- registration -----------------------------------------------------------------------------

Answer<wire::RegisterCodelet::Reply> SchedulerServer::handle(
    wire::RegisterCodelet, const wire::RegisterCodelet::Request& request, CallContext& call) {
  TRY(job_of(call, request.tenant));
  auto region = TRY(claims_.claim(request.region, call.peer().process_id, {ObjectType::region},
                                  rights::send, rights::map_read));
  if (!request.function.valid() || !request.label.valid() || request.function.view().empty())
    return error(Code::invalid_argument, "the names of a codelet are 1 to 63 characters");
  if (request.length == 0 || request.length > proto::context::max_module_bytes ||
      !lies_within(request.offset, request.length, region.info.detail))
    return error(Code::invalid_argument, "a module is 1 byte to 64 MiB and lies within its region");
  if (request.backends == 0 || (request.backends & ~proto::driver::backend::all) != 0)
    return error(Code::invalid_argument, "a module has code for at least one known backend");
  const std::uint32_t codelet =
      TRY(core_.add_codelet(request.tenant, request.label, request.backends, request.module_hash));
  resources_.add_codelet(
      request.tenant, {std::move(region.handle), request.offset, request.length, request.function});
  return wire::RegisterCodelet::Reply{codelet, 0};
}

Answer<wire::RegisterBuffer::Reply> SchedulerServer::handle(
    wire::RegisterBuffer, const wire::RegisterBuffer::Request& request, CallContext& call) {
  const JobId job = TRY(job_of(call, request.tenant));
  if (request.writable > 1) return error(Code::invalid_argument, "`writable` is 0 or 1");
  const bool writable = request.writable == 1;
  auto object = TRY(claims_.claim(request.object, call.peer().process_id,
                                  {ObjectType::region, ObjectType::file}, rights::send,
                                  rights::map_read | (writable ? rights::map_write : 0)));
  if (object.type == ObjectType::file) {
    if (request.offset != 0 || request.length != 0 || writable)
      return error(Code::invalid_argument, "lent files are read-only and have no offset or length");
  } else if (request.length == 0 ||
             !lies_within(request.offset, request.length, object.info.detail)) {
    return error(Code::invalid_argument, "a buffer is at least 1 byte and lies within its region");
  }
  const std::uint32_t buffer = TRY(core_.add_buffer(request.tenant, writable, request.length));
  resources_.add_buffer(job, buffer,
                        {std::move(object.handle), object.type, request.offset, request.length,
                         writable, request.tenant, 0});
  return wire::RegisterBuffer::Reply{buffer, 0};
}

Answer<proto::Empty> SchedulerServer::handle(wire::ReleaseBuffer,
                                             const wire::ReleaseBuffer::Request& request,
                                             CallContext& call) {
  const JobId job = TRY(job_of(call, request.tenant));
  TRY(core_.release_buffer(request.tenant, request.buffer));
  pool_.release_buffer(job, request.buffer);
  resources_.drop_buffer(job, request.buffer);
  return proto::Empty{};
}

Answer<proto::Empty> SchedulerServer::handle(wire::SetArena, const wire::SetArena::Request& request,
                                             CallContext& call) {
  auto region = TRY(claims_.claim(request.region, call.peer().process_id, {ObjectType::region},
                                  rights::map_read | rights::map_write, 0));
  const std::uint64_t size_bytes = region.info.detail;
  if (size_bytes > max_arena_bytes) return error(Code::too_large, "an arena is at most 64 MiB");
  const auto opened = TRY(kernel_.call<proto::kernel::RegionMap>(
      {.region = region.handle.get(), .writable = 1, .reserved = 0}));
  if (opened.fds.size() != 1) return error(Code::quota, "no descriptor left to map an arena");
  Mapping mapping = TRY(Mapping::map(opened.fds.front(), size_bytes, Mapping::Access::read_write));
  links_[call.client()].arena = {std::move(region.handle), std::move(mapping)};
  return proto::Empty{};
}

// ---- tasks ------------------------------------------------------------------------------------

Answer<proto::Empty> SchedulerServer::handle(wire::Submit, const wire::Submit::Request& request,
                                             CallContext& call) {
  TRY(job_of(call, request.tenant));
  if (request.continues > 1) return error(Code::invalid_argument, "`continues` is 0 or 1");
  bool& refused = links_[call.client()].tenants.at(request.tenant).refused;
  if (request.continues == 1 && refused)
    return error(Code::cancelled, "a batch before it was refused");
  refused = true;
  TRY(submit(request, call));
  refused = false;
  changed();
  // Contexts would wait for the next decision until all batches that are there have been taken.
  server_->end_turn();
  return proto::Empty{};
}

Result<void> SchedulerServer::submit(const wire::Submit::Request& request,
                                     const CallContext& call) {
  // Services finish what they have accepted themselves, and that takes tasks.
  if (draining_.begun() && call.peer().role != proto::kernel::PeerRole::child)
    return error(Code::service_down, "the instance is shutting down and takes no new tasks");
  const Mapping& arena = links_[call.client()].arena.mapping;
  if (!arena.valid()) return error(Code::invalid_argument, "this link has no arena yet");
  if (request.count == 0 || request.count > wire::max_batch)
    return error(Code::invalid_argument, "a batch is 1 to 1024 tasks");
  const std::uint64_t length = request.count * sizeof(wire::TaskRecord);
  if (!lies_within(request.offset, length, arena.size()))
    return error(Code::invalid_argument, "the records do not lie within the arena");
  records_.resize(request.count);
  std::memcpy(records_.data(), arena.data() + request.offset, length);
  return core_.submit(request.tenant, records_, now_ns(), request.graph);
}

Answer<wire::OpenGraph::Reply> SchedulerServer::handle(wire::OpenGraph,
                                                       const wire::OpenGraph::Request& request,
                                                       CallContext& call) {
  TRY(job_of(call, request.tenant));
  const std::uint32_t graph = TRY(core_.open_graph(request.tenant, request.deadline_ns, now_ns()));
  return wire::OpenGraph::Reply{graph, 0};
}

Answer<wire::AdmitGraph::Reply> SchedulerServer::handle(wire::AdmitGraph,
                                                        const wire::AdmitGraph::Request& request,
                                                        CallContext& call) {
  TRY(job_of(call, request.tenant));
  if (request.withdraw > 1) return error(Code::invalid_argument, "`withdraw` is 0 or 1");
  const wire::AdmitGraph::Reply reply =
      TRY(core_.admit_graph(request.tenant, request.graph, request.withdraw == 1, now_ns()));
  changed();
  return reply;
}

Answer<proto::Empty> SchedulerServer::handle(wire::SetCheaper,
                                             const wire::SetCheaper::Request& request,
                                             CallContext& call) {
  TRY(job_of(call, request.tenant));
  TRY(core_.set_cheaper(request.tenant, request.codelet, request.cheaper));
  return proto::Empty{};
}

Answer<wire::Completions::Reply> SchedulerServer::handle(wire::Completions,
                                                         const wire::Completions::Request& request,
                                                         CallContext& call) {
  TRY(job_of(call, request.tenant));
  const Mapping& arena = links_[call.client()].arena.mapping;
  if (request.room == 0 || request.room > wire::max_batch || request.least == 0 ||
      request.least > request.room)
    return error(Code::invalid_argument, "room is 1 to 1024, and `least` 1 to that");
  if (!arena.valid() || request.offset % alignof(wire::Completion) != 0 ||
      !lies_within(request.offset, request.room * sizeof(wire::Completion), arena.size()))
    return error(Code::invalid_argument, "the room does not lie within the arena, aligned");
  std::optional<CompletionsWait>& waiter = waiters_[request.tenant].completions;
  if (waiter)
    server_->reply<wire::Completions>(waiter->token, take_completions(request.tenant, *waiter));
  waiter = {call.token(), request.offset, request.room, request.least};
  answer_completions(request.tenant);
  return deferred;
}

void SchedulerServer::answer_completions(TenantId tenant) {
  const auto at = waiters_.find(tenant);
  if (at == waiters_.end() || !at->second.completions) return;
  const Core::Finished finished = core_.finished(tenant);
  if (finished.count == 0 ||
      (finished.count < at->second.completions->least && !finished.is_everything))
    return;
  const CompletionsWait waiter = *std::exchange(at->second.completions, std::nullopt);
  server_->reply<wire::Completions>(waiter.token, take_completions(tenant, waiter));
}

/// The arena may be another by now, or gone.
Result<wire::Completions::Reply> SchedulerServer::take_completions(TenantId tenant,
                                                                   const CompletionsWait& waiter) {
  const Mapping& arena = links_[waiter.token.client].arena.mapping;
  if (!arena.valid() ||
      !lies_within(waiter.offset, waiter.room * sizeof(wire::Completion), arena.size()))
    return error(Code::invalid_argument, "the arena was replaced by one that has no such room");
  auto* room = reinterpret_cast<wire::Completion*>(arena.data() + waiter.offset);
  return wire::Completions::Reply{core_.take_completions(tenant, std::span(room, waiter.room))};
}

Answer<wire::Failure::Reply> SchedulerServer::handle(wire::Failure,
                                                     const wire::Failure::Request& request,
                                                     CallContext& call) {
  TRY(job_of(call, request.tenant));
  const std::string text = TRY(core_.failure(request.tenant, request.tag));
  return wire::Failure::Reply{decltype(wire::Failure::Reply::text)::from(text)};
}

Answer<proto::Empty> SchedulerServer::handle(wire::Cancel, const wire::Cancel::Request& request,
                                             CallContext& call) {
  TRY(job_of(call, request.tenant));
  TRY(core_.cancel(request.tenant, request.tag));
  changed();
  return proto::Empty{};
}

Answer<wire::CancelRange::Reply> SchedulerServer::handle(wire::CancelRange,
                                                         const wire::CancelRange::Request& request,
                                                         CallContext& call) {
  TRY(job_of(call, request.tenant));
  const Core::Cancelled counts =
      TRY(core_.cancel_range(request.tenant, request.first, request.last));
  changed();
  return wire::CancelRange::Reply{counts.pending, counts.running};
}

Answer<proto::Empty> SchedulerServer::handle(proto::Drain, const proto::Empty&, CallContext& call) {
  draining_.begin(call.token());
  changed();
  return deferred;
}

// ---- devices and actions ------------------------------------------------------------------------

Answer<proto::Empty> SchedulerServer::handle(wire::Suspend, const wire::Suspend::Request& request,
                                             CallContext& call) {
  if (request.suspended > 1) return error(Code::invalid_argument, "`suspended` is 0 or 1");
  JobId job = 0;
  ContextSession* session = pool_.session_of(request.process_id, job);
  if (session == nullptr)
    return error(Code::not_found, "no context is process " + std::to_string(request.process_id));
  if (!call.peer().is_operator() && core_.uid_of(job) != call.peer().uid)
    return error(Code::denied, "it is the context of another user");
  session->suspend(request.suspended == 1,
                   [this, token = call.token()](const Result<proto::Empty>& reply) {
                     server_->reply<wire::Suspend>(token, reply);
                   });
  return deferred;
}

void SchedulerServer::add_driver(std::string name, std::unique_ptr<Client> client) {
  if (drivers_.empty())
    in_order_timer_ = loop_.after(in_order_for_ns, [this] {
      in_order_ = false;
      adopt_devices();
    });
  drivers_.push_back(std::make_unique<Driver>(loop_, std::move(name), std::move(client),
                                              [this] { adopt_devices(); }));
  drivers_.back()->discover();
}

/// They are numbered in the order of their drivers, not of the answers, so that a number means the
/// same device after a restart; but a driver that does not answer keeps nobody waiting for long.
void SchedulerServer::adopt_devices() {
  for (const auto& driver : drivers_) {
    if (in_order_ && !driver->has_answered() && !driver->is_given_up()) break;
    adopt_devices(*driver);
  }
  tell_all_known();
  restore_history();
  changed();
}

bool SchedulerServer::all_drivers_answered() const {
  return std::ranges::all_of(drivers_, [](const auto& one) { return one->has_answered(); });
}

/// One that its supervisor has given up is not waited for; if it is started after all, its devices
/// are taken.
void SchedulerServer::tell_all_known() {
  std::string silent;
  for (const auto& driver : drivers_) {
    if (driver->has_answered()) continue;
    if (!drivers_are_late_ && !driver->is_given_up()) return;
    silent += (silent.empty() ? "" : ", ") + driver->name();
  }
  core_.all_devices_known(std::move(silent));
}

void SchedulerServer::adopt_devices(Driver& driver) {
  for (std::uint64_t i = 0; i < driver.devices().size(); ++i) {
    DeviceId id = 0;
    while (id < places_.size() && (places_[id].driver != &driver || places_[id].index != i)) ++id;
    if (id == max_devices) return;
    if (id == places_.size()) places_.push_back({&driver, i});
    const Driver::Device& device = driver.devices()[i];
    const bool usable = device.health != static_cast<std::uint32_t>(proto::driver::Health::failed);
    const std::string name = std::string(device.kind.view()) + std::to_string(id);
    const std::uint32_t backend = proto::driver::backend::from(device.backend.view());
    core_.set_device(id, device.threads, usable, name, backend, identity_of(device));
    core_.set_queue_depth(id, device.queue_depth);
    guess_openings(id, backend);
    if (device.own_memory == 1) core_.set_own_memory(id);
    core_.set_memory_size(id, device.memory_bytes);
    core_.set_keeps_order(id);
  }
}

/// What it takes until the first task can run there, before any has: libraries start, and some
/// devices compile what they load.
void SchedulerServer::guess_openings(DeviceId device, std::uint32_t backend) {
  if (backend == proto::driver::backend::cpu) return;
  const DeviceState& state = core_.devices()[device];
  if (!state.open_time_known) core_.set_open_time(device, 300 * ns_per_ms);
  if (!state.load_time_known && backend == proto::driver::backend::opencl)
    core_.set_load_time(device, 500 * ns_per_ms);
}

// ---- history ----------------------------------------------------------------------------------

void SchedulerServer::keep_history(std::unique_ptr<Client> storage) {
  if (models_ == nullptr) return;
  history_since_ns_ = now_ns();
  history_ = std::make_unique<HistoryStore>(kernel_, loop_, std::move(storage), "history",
                                            max_history_bytes);
  history_->start([this](const HistoryStore::Bytes& bytes) { take_history(bytes); },
                  [this] {
                    return write_history(models_->save(max_history_bytes / 2),
                                         core_.admission().save(), core_.saved_copies());
                  });
}

void SchedulerServer::train_trees(std::unique_ptr<Client> trainer,
                                  std::unique_ptr<Client> storage) {
  if (models_ == nullptr) return;
  trees_ = std::make_unique<TreesKeeper>(kernel_, *models_, std::move(trainer));
  if (storage != nullptr) trees_->keep_in(loop_, std::move(storage));
}

void SchedulerServer::take_history(const std::vector<std::byte>& bytes) {
  Result<SavedHistory> read = read_history(bytes);
  if (!read) {
    log_line("the stored history is dropped, learning begins anew: " + read.error().to_string());
    return;
  }
  restored_ = std::move(*read);
  log_line("history of " + std::to_string(restored_.costs.codelets.size()) + " codelets restored");
  core_.admission().restore(restored_.users);
  restore_history();
}

void SchedulerServer::restore_history() {
  if (models_ == nullptr) return;
  if (!restored_.costs.devices.empty()) {
    models_->restore(restored_.costs);
    restore_copies();
    // All that will come are there.
    if (all_drivers_answered()) restored_ = {};
  }
  if (trees_ != nullptr) trees_->adopt_all();
}

void SchedulerServer::restore_copies() {
  const auto known = static_cast<DeviceId>(core_.devices().size());
  for (const SavedCopies& copies : restored_.copies)
    for (DeviceId device = 0; device < known; ++device)
      if (models_->identity_of(device) == restored_.costs.devices[copies.device])
        core_.restore_copies(device, copies);
}

void SchedulerServer::note_learning() {
  if (trees_ != nullptr) trees_->learned();
  if (history_ == nullptr) return;
  // A device that is looked for is in what was stored, and not in what would be.
  if (!all_drivers_answered() && now_ns() < history_since_ns_ + drivers_answer_within_ns) return;
  const std::uint64_t learned = models_->observations() + core_.copies_learned();
  if (std::exchange(stored_learning_, learned) == learned) return;
  history_->changed();
}

void SchedulerServer::answer_drain() {
  if (!draining_.begun() || history_ == nullptr) return draining_.idle(*server_);
  if (std::exchange(answering_drain_, true)) return;
  const auto flushed = [this] {
    answering_drain_ = false;
    draining_.idle(*server_);
  };
  history_->flush([this, flushed] { trees_ != nullptr ? trees_->flush(flushed) : flushed(); });
}

void SchedulerServer::changed() {
  carry_out_all();
  decide_later();
}

void SchedulerServer::decide_later() {
  if (std::exchange(decision_posted_, true)) return;
  loop_.post([this] {
    decision_posted_ = false;
    core_.decide(now_ns());
    note_learning();
    loop_.cancel(decide_again_);
    if (const std::uint64_t at_ns = core_.decide_again_ns(); at_ns != ~std::uint64_t{0})
      decide_again_ = loop_.at(Deadline{at_ns}, [this] { changed(); });
    carry_out_all();
  });
}

void SchedulerServer::carry_out_all() {
  // What is carried out may tell the core more, and so come here again.
  if (std::exchange(carrying_out_, true)) return;
  bool any = true;
  while (std::exchange(any, false)) {
    for (const Action& action : core_.take_actions()) {
      carry_out(action);
      any = true;
    }
  }
  pool_.flush();
  carrying_out_ = false;
  // Only now all is forgotten that the tenants before had.
  answer_openings();
  if (core_.idle()) answer_drain();
}

void SchedulerServer::carry_out(const Action& action) {
  switch (action.kind) {
    case Action::Kind::start:
      return pool_.start(action.task, action.job, action.device);
    case Action::Kind::open_context:
      return pool_.open(action.job, action.device);
    case Action::Kind::close_context:
      return pool_.close(action.job, action.device);
    case Action::Kind::evict:
      return pool_.evict(action.job, action.device, action.buffer);
    case Action::Kind::completions:
      return answer_completions(action.tenant);
    case Action::Kind::tenant_closed:
      return forget_tenant(action.tenant, action.job);
    case Action::Kind::job_closed:
      return resources_.drop_job(action.job);
  }
}

}  // namespace aios::scheduler
