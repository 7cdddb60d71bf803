#include "services/scheduler/server/driver.hpp"

#include <algorithm>

#include "services/scheduler/core/parts/limits.hpp"

namespace aios::scheduler {
namespace {

constexpr std::uint64_t discover_timeout_ns = ns_per_s;
constexpr std::uint64_t refresh_timeout_ns = 500 * ns_per_ms;
constexpr std::uint64_t retry_delay_ns = 200 * ns_per_ms;
constexpr std::uint64_t failed_delay_ns = ns_per_s;
constexpr std::uint64_t context_timeout_ns = 10 * ns_per_s;

/// A driver is one of ours, but its words go to clients.
bool is_valid(const Driver::Device& device) {
  return device.kind.valid() && device.backend.valid() && device.uuid.valid() &&
         device.model.valid() && device.pci_address.valid() && device.reason.valid() &&
         device.threads > 0 && device.count <= max_devices;
}
bool has_failed(const Driver::Device& device) {
  return device.health == static_cast<std::uint32_t>(proto::driver::Health::failed);
}
bool is_valid(const Driver::Absent& absent) {
  return absent.backend.valid() && absent.why.valid() && absent.advice.valid() &&
         absent.count <= max_devices;
}

}  // namespace

Driver::Driver(EventLoop& loop, std::string name, std::unique_ptr<Client> client,
               std::function<void()> changed)
    : loop_(loop),
      name_(std::move(name)),
      changed_(std::move(changed)),
      client_(std::move(client)) {
  is_away("its driver has not answered yet");
  client_->on_disconnect([this] {
    up_ = false;
    changed_();
    discover();
  });
}

Driver::~Driver() {
  closed_ = true;
  loop_.cancel(retry_);
}

void Driver::discover() {
  if (asking_) return;
  asking_ = true;
  ask(0, discover_timeout_ns);
}

void Driver::refresh(std::function<void()> done) {
  waiting_.push_back(std::move(done));
  if (asking_) return;
  asking_ = true;
  ask(0, refresh_timeout_ns);
}

void Driver::ask(std::uint64_t index, std::uint64_t timeout_ns) {
  client_->start<proto::driver::Device>({index}, Deadline::after(timeout_ns),
                                        [this, index, timeout_ns](const Result<Device>& reply) {
                                          answered(index, reply, timeout_ns);
                                        });
}

void Driver::answered(std::uint64_t index, const Result<Device>& reply, std::uint64_t timeout_ns) {
  if (closed_) return;
  if (!reply) return end_round(std::unexpected(reply.error()));
  if (reply->count == 0) return ask_absent(0, timeout_ns);
  if (!is_valid(*reply)) return end_round(error(Code::protocol_error, "it answers nonsense"));
  if (index >= devices_.size()) devices_.resize(index + 1);
  devices_[index] = *reply;
  if (index + 1 < reply->count) return ask(index + 1, timeout_ns);
  ask_absent(0, timeout_ns);
}

void Driver::ask_absent(std::uint64_t index, std::uint64_t timeout_ns) {
  if (index == 0) found_absent_.clear();
  client_->start<proto::driver::Absent>({index}, Deadline::after(timeout_ns),
                                        [this, index, timeout_ns](const Result<Absent>& reply) {
                                          answered_absent(index, reply, timeout_ns);
                                        });
}

void Driver::answered_absent(std::uint64_t index, const Result<Absent>& reply,
                             std::uint64_t timeout_ns) {
  if (closed_) return;
  if (!reply) return end_round(std::unexpected(reply.error()));
  if (reply->count == 0) return end_round({});
  if (!is_valid(*reply)) return end_round(error(Code::protocol_error, "it answers nonsense"));
  found_absent_.push_back(*reply);
  if (index + 1 < reply->count) return ask_absent(index + 1, timeout_ns);
  end_round({});
}

void Driver::end_round(const Result<void>& outcome) {
  asking_ = false;
  up_ = outcome.has_value();
  has_answered_ = has_answered_ || up_;
  given_up_ = !up_ && outcome.error().code() == Code::service_down;
  if (up_)
    absent_ = std::exchange(found_absent_, {});
  else
    is_away("its driver says: " + outcome.error().message());
  changed_();
  for (const auto& done : std::exchange(waiting_, {})) done();
  // A device that is gone may come back.
  if (asking_ || (up_ && std::ranges::none_of(devices_, has_failed))) return;
  loop_.cancel(retry_);
  retry_ = loop_.after(up_ ? failed_delay_ns : retry_delay_ns, [this] { discover(); });
}

/// All that is known of its devices.
void Driver::is_away(const std::string& why) {
  Absent away{};
  away.backend = decltype(away.backend)::from(name_);
  away.why = decltype(away.why)::from(why);
  away.advice =
      decltype(away.advice)::from("if it stays so: aiosctl status, aiosctl logs " + name_);
  absent_.assign(1, away);
}

void Driver::open_context(Handle job, std::uint64_t device,
                          std::function<void(const Result<OpenContext::Reply>&)> done) {
  client_->start_with_handles<OpenContext>(
      {0, device}, {{job, ObjectType::job, rights::info | rights::act, 0, false}},
      [](std::span<const Handle> numbers, OpenContext::Request& r) { r.tenant = numbers.front(); },
      Deadline::after(context_timeout_ns),
      [this, done = std::move(done)](const Result<OpenContext::Reply>& reply) {
        if (!closed_) done(reply);
      });
}

void Driver::close_context(std::uint64_t job_id, std::uint64_t device,
                           std::function<void(const Result<proto::Empty>&)> done) {
  client_->start<proto::driver::CloseContext>(
      {job_id, device}, Deadline::after(context_timeout_ns),
      [this, done = std::move(done)](const Result<proto::Empty>& reply) {
        if (!closed_) done(reply);
      });
}

}  // namespace aios::scheduler
