#include "drivers/device/run_batch.hpp"

#include <algorithm>
#include <cstring>

#include "abi/runtime/time.hpp"

namespace aios::device {
namespace {

using Message = RunBatch::Message;
using proto::context::Run;

/// Takes the packed tasks apart, from the front.
class Unpacker {
 public:
  explicit Unpacker(std::span<const std::uint8_t> packed) : left_(packed) {}
  Result<Run::Request> next();
  bool done() const { return left_.empty(); }

 private:
  bool take(void* to, std::size_t bytes);
  std::span<const std::uint8_t> left_;
};

bool Unpacker::take(void* to, std::size_t bytes) {
  if (bytes > left_.size()) return false;
  std::memcpy(to, left_.data(), bytes);
  left_ = left_.subspan(bytes);
  return true;
}

Result<Run::Request> Unpacker::next() {
  const auto wrong = [] { return error(Code::invalid_argument, "the batch is packed wrongly"); };
  Message::PackedRun packed;
  if (!take(&packed, sizeof packed)) return wrong();
  Run::Request request{};
  request.codelet = packed.codelet;
  std::copy_n(packed.grid, 3, request.grid);
  request.buffer_count = packed.buffer_count;
  request.argument_bytes = packed.argument_bytes;
  TRY(check_counts(request));
  if (!take(request.buffers, request.buffer_count * sizeof(proto::context::BufferUse)))
    return wrong();
  std::uint32_t padding = 0;
  if (!take(request.arguments, request.argument_bytes) ||
      !take(&padding, (4 - request.argument_bytes % 4) % 4))
    return wrong();
  return request;
}

std::uint32_t since(std::uint64_t base_ns, std::uint64_t at_ns) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(at_ns - base_ns, UINT32_MAX));
}

}  // namespace

Result<std::shared_ptr<RunBatch>> RunBatch::create(const Message::Request& request,
                                                   Backend& backend, const BufferTable& buffers) {
  if (request.count == 0 || request.count > Message::max_tasks ||
      request.packed_bytes > sizeof request.packed)
    return error(Code::invalid_argument, "a batch has 1 to 10 tasks within its message");
  std::shared_ptr<RunBatch> batch(new RunBatch);
  batch->number_ = request.number;
  batch->works_.reserve(request.count);
  Unpacker unpacker(std::span(request.packed).first(request.packed_bytes));
  for (std::uint32_t i = 0; i < request.count; ++i) {
    const Run::Request run = TRY(unpacker.next());
    if (batch->unprepared_) continue;
    Result<std::shared_ptr<Work>> work = backend.prepare(run, buffers);
    if (work)
      batch->works_.push_back(std::move(*work));
    else
      batch->unprepared_ = std::move(work).error();
  }
  if (!unpacker.done()) return error(Code::invalid_argument, "the batch is packed wrongly");
  return batch;
}

Result<> RunBatch::run() {
  // The clock is read once a task: one begins when the one before has ended.
  std::uint64_t last_ns = reply_.base_ns = now_ns();
  for (const std::shared_ptr<Work>& work : works_) {
    Result<> outcome = work->begin();
    if (outcome) outcome = run_blocks(*work);
    const std::uint64_t end_ns = now_ns();
    note(*work, {std::exchange(last_ns, end_ns), end_ns});
    if (outcome) continue;
    failure_ = std::move(outcome).error();
    break;
  }
  return conclude();
}

void RunBatch::begin_all() {
  reply_.base_ns = now_ns();
  for (std::size_t i = 0; i < works_.size(); ++i) {
    Result<> begun = works_[i]->begin();
    if (begun) continue;
    unprepared_ = std::move(begun).error();
    works_.resize(i);
  }
  will_fail_ = unprepared_.has_value();
}

Result<> RunBatch::end_all() {
  for (const std::shared_ptr<Work>& work : works_) {
    Result<> outcome = run_blocks(*work);
    if (!failure_) note(*work, {reply_.base_ns, now_ns()});
    if (!outcome) fail(std::move(outcome).error());
  }
  return conclude();
}

bool RunBatch::tells_end() const {
  return !works_.empty() && works_.back()->tells_end();
}

/// A device ends them in their order.
bool RunBatch::has_ended() const {
  return works_.empty() || works_.back()->has_ended();
}

Result<> RunBatch::run_blocks(Work& work) {
  Result<> outcome;
  for (std::uint32_t block = 0; block < work.block_count() && outcome; ++block)
    outcome = work.run_block(block);
  return outcome;
}

void RunBatch::note(const Work& work, const DeviceTimes& measured) {
  Message::Ended& ended = reply_.ended[reply_.count++];
  const DeviceTimes times = work.times().value_or(measured);
  ended.start_ns = since(reply_.base_ns, std::max(times.start_ns, reply_.base_ns));
  ended.end_ns = since(reply_.base_ns, std::max(times.end_ns, reply_.base_ns));
  reply_.transfer_ns += work.transfer_ns();
  ahead_ns_ += work.ahead_ns();
  reply_.ahead_us =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(ahead_ns_ / 1'000, UINT32_MAX));
  const auto& result = work.result();
  std::copy(result.begin(), result.end(), reply_.results[reply_.count - 1].words);
  if (std::ranges::any_of(result, [](std::uint64_t word) { return word != 0; }))
    reply_.result_count = reply_.count;
}

/// Of several failures the first counts, but that the device was lost with one of them concerns
/// all that are there.
void RunBatch::fail(Status why) {
  if (!failure_ || why.code() == Code::crashed) failure_ = std::move(why);
}

Result<> RunBatch::conclude() {
  if (unprepared_) {
    if (!failure_) ++reply_.count;
    fail(*std::exchange(unprepared_, std::nullopt));
  }
  if (!failure_) return {};
  reply_.status = static_cast<std::uint16_t>(failure_->code());
  return std::unexpected(*failure_);
}

// ---- the batches of a client --------------------------------------------------------------------

Result<BatchLog::Before> BatchLog::before(const Message::Request& request) const {
  if (request.number <= last_)
    return error(Code::invalid_argument, "the numbers of a link's batches must rise");
  if (request.after_count > Message::max_after)
    return error(Code::invalid_argument, "a batch waits for at most 8 others");
  Before before;
  for (std::uint32_t i = 0; i < request.after_count; ++i) {
    const std::uint64_t distance = request.after[i];
    if (distance == 0 || distance > Message::max_distance || distance >= request.number)
      return error(Code::invalid_argument, "a batch waits for ones 1 to 4096 numbers before it");
    const std::uint64_t number = request.number - distance;
    before.cancelled = before.cancelled || early_.contains(number);
    if (const auto at = jobs_.find(number); at != jobs_.end()) before.jobs.push_back(at->second);
  }
  return before;
}

void BatchLog::refused(std::uint64_t number) {
  early_.insert(number);
  if (early_.size() > Message::max_distance) early_.erase(early_.begin());
}

void BatchLog::begun(std::uint64_t number, std::uint64_t job) {
  last_ = number;
  early_.erase(number);
  jobs_.emplace_hint(jobs_.end(), number, job);
}

void BatchLog::ended(std::uint64_t number) {
  jobs_.erase(number);
}

void BatchLog::ended_early(std::uint64_t number, std::string why) {
  last_ = std::max(last_, number);
  jobs_.erase(number);
  early_.insert(number);
  if (last_ > Message::max_distance)
    early_.erase(early_.begin(), early_.lower_bound(last_ - Message::max_distance));
  if (why.empty()) return;
  if (reasons_.size() == most_reasons) reasons_.pop_front();
  reasons_.emplace_back(number, std::move(why));
}

Result<std::string> BatchLog::take_reason(std::uint64_t number) {
  const auto at = std::ranges::find(reasons_, number, [](const auto& one) { return one.first; });
  if (at == reasons_.end())
    return error(Code::not_found, "no failure of batch " + std::to_string(number) + " is known");
  std::string why = std::move(at->second);
  reasons_.erase(at);
  return why;
}

}  // namespace aios::device
