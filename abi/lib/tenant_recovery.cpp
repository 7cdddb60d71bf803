// A tenant is opened, and opened again when the scheduler died: the job, what was registered, and
// the unfinished tasks, one step after the other. A loss begins it anew; what comes of the steps
// before it is known by the scheduler's life in which they were taken.
#include "abi/lib/tasks.hpp"

using namespace aios;
using namespace aios::lib;
namespace wire = proto::scheduler;

namespace {
/// Before a step is taken once more.
constexpr std::uint64_t pause_ns = 10 * ns_per_ms;
}  // namespace

Result<void> aios_tenant::open(Deadline deadline) {
  TRY(core().check_process());
  TRY(prepare_to_sleep());
  std::unique_lock lock(mutex);
  until_ = deadline;
  open_again();
  finish(*this, lock, [this] { return open_ || broken; });
  if (broken) return std::unexpected(*broken);
  return {};
}

void aios_tenant::lost() {
  changed();
  if (broken) return;
  ++life_;
  again_at_ = Deadline::never();
  begins_anew_ = false;
  if (std::exchange(open_, false)) until_ = Deadline::after(patience_ns);
  or_give_up([&] {
    for (Ended& one : ledger_.lose(registered.memory())) ended_.push_back(std::move(one));
    open_again();
  });
}

/// What follows on a step that succeeds. On one that is lost follows `lost`.
TaskCallback<void> aios_tenant::step(std::function<void()> next) {
  return [this, life = life_, next = std::move(next)](Result<void> done) {
    if (life != life_ || broken) return;
    or_give_up([&] { done ? next() : failed(done.error()); });
  };
}

void aios_tenant::open_again() {
  batch_limit_ = wire::max_batch;
  tenant.open(core().kernel().job(), until_, step([this] { register_all(); }));
}

void aios_tenant::register_all() {
  const auto into = [this](std::uint32_t& there) {
    ++registering_;
    return TaskCallback<std::uint32_t>([this, life = life_, &there](Result<std::uint32_t> number) {
      if (life != life_ || broken) return;
      or_give_up([&] {
        if (!number) return failed(number.error());
        there = *number;
        if (--registering_ == 0) name_cheaper();
      });
    });
  };
  registering_ = 1;  // this loop
  registered.for_each_codelet([&](Registrations::Codelet& one) {
    tenant.register_codelet(one.module->handle(), 0, one.length, one.function, one.function,
                            one.backends, until_, into(one.there), one.module_hash);
  });
  registered.for_each_buffer([&](Registrations::Buffer& one) {
    if (one.type == ObjectType::file)
      tenant.register_files(one.object->get(), until_, into(one.there));
    else
      tenant.register_buffer(one.object->get(), one.offset, one.length, one.writable, until_,
                             into(one.there));
  });
  if (--registering_ == 0) name_cheaper();
}

/// Which codelets are cheaper variants of others, once all have numbers.
void aios_tenant::name_cheaper() {
  registering_ = 1;  // this loop
  registered.for_each_codelet([&](const Registrations::Codelet& one) {
    if (!one.cheaper) return;
    const auto cheaper = registered.codelet_there(*one.cheaper);
    if (!cheaper) return;
    ++registering_;
    tenant.set_cheaper(one.there, *cheaper, until_, step([this] {
                         if (--registering_ == 0) send_again();
                       }));
  });
  if (--registering_ == 0) send_again();
}

/// One batch at a time: the next one when this was taken.
void aios_tenant::send_again() {
  for (;;) {
    const auto batch = ledger_.replay(batch_limit_, now_ns(), ended_);
    if (batch.empty()) return opened();
    if (Result<void> known = registered.translate(batch); !known) {
      if (refused(known.error(), batch.size())) continue;
      return;
    }
    return tenant.submit(batch, until_,
                         [this, life = life_, count = batch.size()](Result<void> taken) {
                           if (life != life_ || broken) return;
                           or_give_up([&] { replayed(taken, count); });
                         });
  }
}

/// The scheduler has answered a batch that was sent again.
void aios_tenant::replayed(const Result<void>& taken, std::size_t count) {
  if (taken) {
    ledger_.replayed();
    batch_limit_ = std::min<std::size_t>(2 * count, wire::max_batch);
  } else if (!refused(taken.error(), count)) {
    return;
  }
  send_again();
}

/// Of a batch that was refused the guilty are found by halving it. True: go on at once.
bool aios_tenant::refused(const Status& status, std::size_t count) {
  const Code code = status.code();
  const bool is_full = code == Code::quota || code == Code::busy;
  if (code == Code::peer_closed || code == Code::timed_out || (is_full && until_.passed())) {
    failed(status);
    return false;
  }
  if (is_full) {
    // Others of the user have taken the room meanwhile.
    again_at_ = Deadline::after(pause_ns);
    want_completions();
    return false;
  }
  // What crashes the scheduler is not tried in pieces.
  if (count > 1 && code != Code::crashed) {
    batch_limit_ = count / 2;
    return true;
  }
  for (Ended& one : ledger_.refuse(status)) ended_.push_back(std::move(one));
  return true;
}

void aios_tenant::opened() {
  open_ = ever_open_ = true;
  tell_ended();
  changed();
  if (std::exchange(wants_completions_, false)) want_completions(asked_least_);
}

/// A step has. The tenant is given up, unless the scheduler died over it.
void aios_tenant::failed(const Status& status) {
  changed();
  if (status.code() == Code::peer_closed && !until_.passed()) {
    // Follows `lost`, this is taken back.
    begins_anew_ = true;
    again_at_ = Deadline::after(pause_ns);
    return;
  }
  if (!ever_open_ || status.code() == Code::service_down)
    broken.emplace(status);
  else if (status.code() == Code::timed_out || status.code() == Code::peer_closed)
    broken.emplace(Code::peer_closed,
                   "the scheduler died and was not back in 30 s; open another tenant");
  else
    broken.emplace(
        status.code(),
        "the scheduler died, and its successor does not take the tenant: " + status.message());
  tell_ended();
}

bool aios_tenant::work() {
  const bool more = ClientEndpoint::work();
  if (!again_at_.passed()) return more;
  again_at_ = Deadline::never();
  or_give_up([&] { std::exchange(begins_anew_, false) ? open_again() : send_again(); });
  return true;
}

Deadline aios_tenant::next_deadline() const {
  return {std::min(ClientEndpoint::next_deadline().at_ns, again_at_.at_ns)};
}

void aios_tenant::kernel_lost() {
  if (!broken) broken.emplace(Code::peer_closed, "the AIOS kernel is gone");
  ClientEndpoint::kernel_lost();
}
