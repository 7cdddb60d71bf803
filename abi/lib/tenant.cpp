// A tenant's tasks: there and back.
#include <cstring>

#include "abi/lib/tasks.hpp"

using namespace aios;
using namespace aios::lib;
namespace wire = proto::scheduler;

namespace {
/// Fetched and not taken by the program; beyond it the scheduler keeps them.
constexpr std::size_t most_finished = 4096;
constexpr std::size_t remembered_failures = 256;
constexpr TaskLink::CompletionCalls completion_calls = TaskLink::for_one_tenant;
}  // namespace

aios_tenant::aios_tenant(std::shared_ptr<Core> of, Handle port)
    : ClientEndpoint(std::move(of)),
      registered(core().kernel()),
      link(core().kernel(), nullptr, port, completion_calls),
      tenant(link) {
  client = &link.client();
  link.on_lost([this] { lost(); });
}

void aios_tenant::close() {
  // So short that it needs no memory.
  if (!broken) broken.emplace(Code::cancelled, "tenant closed");
  link.on_lost({});
  client->disconnect();
}

/// Also notices that the scheduler is dead: what is not even sent to it need not be in doubt.
bool aios_tenant::is_open() {
  if (open_ && client->link() != nullptr && client->link()->closed()) drive();
  return open_;
}

Result<void> aios_tenant::await_open(std::unique_lock<std::mutex>& lock, Deadline deadline) {
  finish(
      *this, lock, [this] { return is_open() || broken; }, deadline);
  if (broken) return std::unexpected(*broken);
  if (open_) return {};
  return error(Code::timed_out, "the scheduler died and is not back yet");
}

// ---- submitting ---------------------------------------------------------------------------------

Result<void> aios_tenant::submit(Records records, Deadline deadline) {
  TRY(core().check_process());
  TRY(prepare_to_sleep());
  std::unique_lock lock(mutex);
  bool has_place = false;
  const auto may_send = [&] {
    has_place = is_open() && batches_ < TaskLink::arena_batches;
    return has_place || broken;
  };
  finish(*this, lock, may_send, deadline);
  if (broken) return std::unexpected(*broken);
  if (!has_place)
    return error(Code::timed_out, open_ ? "earlier batches are not taken yet"
                                        : "the scheduler died and is not back yet");
  struct Answer {
    bool done = false;
    Result<void> result = error(Code::internal);
  };
  const auto answer = std::make_shared<Answer>();
  const auto answered = [answer](Result<void> result) {
    answer->result = std::move(result);
    answer->done = true;
  };
  send(records, answered, nullptr);
  try {
    want_completions();
  } catch (const std::bad_alloc&) {
    // It is sent. Whoever waits for completions asks for them.
  }
  finish(
      *this, lock, [&] { return answer->done; }, deadline);
  if (answer->done) return std::move(answer->result);
  return error(Code::timed_out,
               "the scheduler did not answer in time; it may still take the tasks");
}

/// What submit_many shares with the answers to its batches, which may outlive it.
struct aios_tenant::Series {
  const Records::element_type* first;
  BeforeSend before_send;
  Records left;  ///< not sent, or sent and to be sent again
  HeldGraph graph;
  std::size_t taken = 0;
  std::uint32_t on_the_way = 0;
  bool began = false;             ///< the next batch continues one before it
  std::optional<Status> refusal;  ///< of the first batch that was refused,
  std::uint64_t refused_at = 0;   ///< and its place in the ledger
};

/// Without memory for it nothing was sent, and this throws.
void aios_tenant::send(Records batch, Answered answered, const std::shared_ptr<Series>& series) {
  const auto range = ledger_.add(batch, series != nullptr && series->graph.number != 0);
  if (!range) {
    if (series != nullptr) series->refused_at = ledger_.end();
    return answered(std::unexpected(range.error()));
  }
  try {
    send_added(batch, *range, std::move(answered), series);
  } catch (const std::bad_alloc&) {
    ledger_.remove(*range);
    throw;
  }
}

/// The answer has no deadline of its own: until it is there the arena's place is in use, and nobody
/// knows whose the tasks are.
void aios_tenant::send_added(Records batch, TaskLedger::Range range, Answered answered,
                             const std::shared_ptr<Series>& series) {
  std::vector<Ended> doomed;
  if (life_ > 0) {
    const auto prepared = ledger_.prepare(batch, doomed);
    if (Result<void> known = registered.translate(prepared); !known) {
      if (series != nullptr) series->refused_at = range.first;
      ledger_.remove(range);
      return answered(std::move(known));
    }
    batch = prepared;
  }
  auto done = [this, range, doomed = std::move(doomed), answered = std::move(answered),
               series](Result<void> result) mutable {
    --batches_;
    const bool is_lost = !result && result.error().code() == Code::peer_closed && !broken;
    const bool is_refused =
        series != nullptr && series->refusal && series->refused_at < range.first;
    // Perhaps it was taken, so it counts as taken; what follows one that was not, was not.
    if (is_lost && !is_refused) result = {};
    if (!result) {
      ledger_.remove(range);
      if (series != nullptr && !series->refusal) series->refused_at = range.first;
    } else if (!is_lost) {
      or_give_up([&] {
        for (const Ended& one : doomed) {
          ledger_.end_doomed(one);
          end(one);
        }
      });
    }
    changed();
    answered(std::move(result));
  };
  ++batches_;
  // All of it depends on what has failed.
  if (batch.empty()) return done({});
  try {
    tenant.submit(batch, Deadline::never(), std::move(done), series != nullptr && series->began,
                  series == nullptr ? 0 : series->graph.number);
  } catch (const std::bad_alloc&) {
    --batches_;
    throw;
  }
}

bool aios_tenant::may_send_more(const Series& series) {
  if (!is_open() || series.refusal || series.left.empty() || batches_ >= TaskLink::arena_batches)
    return false;
  return ledger_.size() + wire::max_batch <= wire::max_pending_per_tenant;
}

void aios_tenant::send_next(const std::shared_ptr<Series>& series) {
  const Records batch =
      series->left.first(std::min<std::size_t>(series->left.size(), wire::max_batch));
  series->left = series->left.subspan(batch.size());
  if (series->before_send)
    series->before_send(static_cast<std::size_t>(batch.data() - series->first), batch.size());
  ++series->on_the_way;
  const auto answered = [series, batch](Result<void> result) {
    --series->on_the_way;
    if (result) {
      series->taken += batch.size();
    } else if (!series->refusal) {
      // Those that were sent after it are refused as well: what is left begins here.
      series->refusal = std::move(result).error();
      series->left = Records(batch.data(), series->left.data() + series->left.size());
    }
  };
  try {
    send(batch, answered, series);
  } catch (const std::bad_alloc&) {
    series->refused_at = ledger_.end();
    answered(error(Code::no_memory, "out of memory"));
  }
  series->began = true;
}

Result<void> aios_tenant::submit_many(Records records, Deadline deadline, std::size_t& taken,
                                      BeforeSend before_send, HeldGraph graph) {
  TRY(core().check_process());
  TRY(prepare_to_sleep());
  std::unique_lock lock(mutex);
  const auto series = std::make_shared<Series>();
  series->first = records.data();
  series->before_send = std::move(before_send);
  series->left = records;
  series->graph = graph;
  keep_all_ = true;
  const auto go_on = [&] {
    if (graph.number != 0 && graph.life != life_ && !series->refusal)
      series->refusal.emplace(Code::peer_closed, "the scheduler died while it was given the graph");
    while (may_send_more(*series)) send_next(series);
  };
  // Nothing wakes who waits for room but completions. Without memory to ask for them nothing that
  // was sent is lost: whoever waits for completions asks again.
  const auto want_more = [&] {
    try {
      want_completions(ledger_.size() + wire::max_batch > wire::max_pending_per_tenant
                           ? completion_calls.each
                           : wire::max_pending_per_tenant);
    } catch (const std::bad_alloc&) {
      if (series->left.empty() || series->refusal) return;
      series->refusal.emplace(Code::no_memory, "out of memory");
    }
  };
  const auto ended = [&] {
    try {
      go_on();
    } catch (const std::bad_alloc&) {
      if (!series->refusal) series->refusal.emplace(Code::no_memory, "out of memory");
    }
    want_more();
    return series->on_the_way == 0 && (series->left.empty() || series->refusal || broken);
  };
  for (;;) {
    finish(*this, lock, ended, deadline);
    const bool full = series->refusal && series->refusal->code() == Code::quota &&
                      series->on_the_way == 0 && ledger_.size() > 0 && !broken;
    if (!full || deadline.passed()) break;
    // Other tenants of the user have filled what there is: as soon as something ends it is tried
    // again.
    const std::size_t before = ledger_.size();
    finish(
        *this, lock, [&] { return ledger_.size() < before || broken; }, deadline);
    series->refusal.reset();
    series->began = false;
  }
  keep_all_ = false;
  taken = series->taken;
  if (series->refusal) return std::unexpected(*series->refusal);
  if (broken) return std::unexpected(*broken);
  if (!series->left.empty() || series->on_the_way > 0)
    return error(Code::timed_out, "not all batches were taken in time");
  return {};
}

// ---- completions --------------------------------------------------------------------------------

std::uint64_t aios_tenant::watch(std::size_t count,
                                 std::function<void(const aios_completion&)> watcher) {
  // Never the tags of programs in the low half, by which tasks are told apart.
  constexpr std::uint64_t graph_bit = 1ull << 31;
  if (static_cast<std::uint32_t>(next_tag_) + count > UINT32_MAX)
    next_tag_ = ((next_tag_ >> 32) + 1) << 32 | graph_bit;
  const std::uint64_t first = std::exchange(next_tag_, next_tag_ + count);
  watched_[first] = {first + count, std::move(watcher)};
  return first;
}

void aios_tenant::unwatch(std::uint64_t first_tag, bool all_ended) {
  if (all_ended)
    watched_.erase(first_tag);
  else
    watched_.at(first_tag).watcher = [](const aios_completion&) {};
}

void aios_tenant::want_completions(std::size_t least) {
  if (broken || !tenant.is_open() || (finished.size() >= most_finished && !keep_all_)) return;
  least = std::min<std::size_t>(least, completion_calls.each);
  // A second call makes the scheduler answer the first.
  if (asked_ > 1 || (asked_ == 1 && asked_least_ <= least)) return;
  ++asked_;
  const std::size_t asked_before = std::exchange(asked_least_, least);
  const auto answered = [this](Result<TaskTenant::Completions> completions) {
    --asked_;
    or_give_up([&] { arrived(std::move(completions)); });
  };
  try {
    tenant.completions(Deadline::never(), answered, static_cast<std::uint32_t>(least));
  } catch (const std::bad_alloc&) {
    --asked_;
    asked_least_ = asked_before;
    throw;
  }
}

void aios_tenant::arrived(Result<TaskTenant::Completions> completions) {
  changed();
  if (!completions) {
    wants_completions_ = true;
    if (!broken && completions.error().code() != Code::peer_closed) broken = completions.error();
    return;
  }
  for (const wire::Completion& completion : *completions) {
    if (!ledger_.finish(completion.tag, completion.status == 0)) continue;
    aios_completion one;
    std::memcpy(&one, &completion, sizeof one);
    deliver(one);
  }
  want_completions(asked_least_);
}

void aios_tenant::deliver(const aios_completion& one) {
  const auto after = watched_.upper_bound(one.tag);
  if (after != watched_.begin() && one.tag < std::prev(after)->second.end_tag)
    std::prev(after)->second.watcher(one);
  else
    finished.push_back(one);
}

/// A task ended that the scheduler will never tell of.
void aios_tenant::end(const Ended& one) {
  if (failures_.size() == remembered_failures) failures_.pop_front();
  failures_.push_back({one.tag, one.why});
  aios_completion completion{};
  completion.tag = one.tag;
  completion.status = static_cast<std::uint32_t>(one.code);
  deliver(completion);
  changed();
}

void aios_tenant::tell_ended() {
  for (const Ended& one : std::exchange(ended_, {})) end(one);
}

Result<std::string> aios_tenant::failure(std::uint64_t tag, Deadline deadline) {
  TRY(core().check_process());
  {
    const std::lock_guard lock(mutex);
    const auto last = std::find_if(failures_.rbegin(), failures_.rend(),
                                   [&](const Failure& one) { return one.tag == tag; });
    if (last != failures_.rend()) return last->text;
  }
  return ask<std::string>(
      deadline, [&](TaskTenant& t, auto done) { t.failure(tag, deadline, std::move(done)); });
}

Result<TaskTenant::Cancelled> aios_tenant::cancel(std::uint64_t first, std::uint64_t last,
                                                  Deadline deadline) {
  return ask<TaskTenant::Cancelled>(deadline, [&](TaskTenant& t, auto done) {
    t.cancel_range(first, last, deadline,
                   [this, first, last, end = ledger_.end(),
                    done = std::move(done)](Result<TaskTenant::Cancelled> counts) mutable {
                     if (counts) ledger_.cancelled(first, last, end);
                     done(std::move(counts));
                   });
  });
}

Result<void> aios_tenant::cancel(std::uint64_t tag, Deadline deadline) {
  return ask<void>(deadline, [&](TaskTenant& t, auto done) {
    t.cancel(tag, deadline, [this, tag, done = std::move(done)](Result<void> result) mutable {
      if (result) ledger_.cancelled(tag);
      done(std::move(result));
    });
  });
}
