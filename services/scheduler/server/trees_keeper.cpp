#include "services/scheduler/server/trees_keeper.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "abi/runtime/log.hpp"

namespace aios::scheduler {

namespace wire = proto::trainer;

namespace {

/// So many that gathering their runs takes well under a millisecond.
constexpr std::size_t most_keys_at_once = 16;
/// More than the largest trees take.
constexpr std::size_t bytes_for_a_key = 16u << 10;
static_assert(max_tree_nodes * sizeof(TreeNode) + max_trees * sizeof(std::uint16_t) + 1024 <=
              bytes_for_a_key);
static_assert(most_keys_at_once * bytes_for_a_key <= wire::max_trees_bytes);
static_assert(most_keys_at_once * (max_first_runs * sizeof(FirstRun) + 1024) <=
              wire::max_runs_bytes);
static_assert(max_trained_keys * bytes_for_a_key <= wire::max_trees_bytes);
constexpr std::uint64_t answer_ns = 30 * ns_per_s;

}  // namespace

TreesKeeper::TreesKeeper(Kernel& kernel, LearnedCosts& costs, std::unique_ptr<Client> trainer)
    : kernel_(kernel), costs_(costs), trainer_(std::move(trainer)) {
  ask_library();
}

TreesKeeper::~TreesKeeper() {
  // No callback may come into what is half gone.
  trainer_.reset();
}

void TreesKeeper::ask_library() {
  trainer_->start<wire::Library>({}, Deadline::after(answer_ns),
                                 [this](const Result<wire::Library::Reply>& reply) {
                                   is_available_ = reply && reply->text.valid();
                                   text_ = is_available_ ? std::string(reply->text.view())
                                           : reply       ? "the trainer's answer makes no sense"
                                                         : reply.error().to_string();
                                 });
}

// ---- storage ------------------------------------------------------------------------------------

void TreesKeeper::keep_in(EventLoop& loop, std::unique_ptr<Client> storage) {
  store_ = std::make_unique<HistoryStore>(kernel_, loop, std::move(storage), "forest",
                                          wire::max_trees_bytes);
  store_->start([this](const HistoryStore::Bytes& bytes) { fetched(bytes); },
                [this] { return write_trained(kept_); });
}

void TreesKeeper::fetched(const HistoryStore::Bytes& bytes) {
  Result<std::vector<TrainedKey>> read = read_trained(bytes);
  if (!read)
    return log_line("the stored forest is dropped, trees are trained anew: " +
                    read.error().to_string());
  // What was trained meanwhile is newer.
  std::vector<TrainedKey> newer = std::exchange(kept_, {});
  for (TrainedKey& one : *read) take(std::move(one), false);
  for (TrainedKey& one : newer) take(std::move(one), false);
  log_line("trees of " + std::to_string(read->size()) + " models restored");
}

void TreesKeeper::flush(std::function<void()> done) {
  if (store_ == nullptr) return done();
  store_->flush(std::move(done));
}

void TreesKeeper::adopt_all() {
  for (const TrainedKey& one : kept_) costs_.adopt(one, false);
}

// ---- training -----------------------------------------------------------------------------------

void TreesKeeper::learned() {
  if (!asked_.empty() || !costs_.training_due()) return;
  const std::vector<KeyRuns> keys = costs_.take_training(most_keys_at_once);
  if (keys.empty()) return;
  for (const KeyRuns& one : keys) asked_.push_back(one.key);
  if (const Result<void> started = start(keys); !started) ended(std::unexpected(started.error()));
}

Result<void> TreesKeeper::start(const std::vector<KeyRuns>& keys) {
  const std::vector<std::byte> bytes = write_runs(keys);
  runs_ = TRY(Region::create(kernel_, bytes.size(), "runs"));
  trees_ = TRY(Region::create(kernel_, keys.size() * bytes_for_a_key, "trees"));
  std::memcpy(runs_.data(), bytes.data(), bytes.size());
  constexpr std::uint32_t read = rights::info | rights::map_read;
  trainer_->start_with_handles<wire::Train>(
      {0, 0, bytes.size()},
      {{runs_.handle(), ObjectType::region, read, 0, false},
       {trees_.handle(), ObjectType::region, read | rights::map_write, 0, false}},
      [](std::span<const Handle> numbers, wire::Train::Request& request) {
        request.runs = numbers[0];
        request.trees = numbers[1];
      },
      Deadline::after(wire::max_training_ns + answer_ns),
      [this](const Result<wire::Train::Reply>& reply) { ended(reply); });
  return {};
}

void TreesKeeper::ended(const Result<wire::Train::Reply>& reply) {
  const Result<void> done =
      reply ? take_over(*reply) : Result<void>(std::unexpected(reply.error()));
  if (!done) {
    if (done.error().code() == Code::not_supported) is_available_ = false;
    // Once: every growth tries again.
    if (const std::string text = done.error().to_string(); std::exchange(text_, text) != text)
      log_line("no trees were trained: " + text);
  } else if (!is_available_) {
    ask_library();
  }
  asked_.clear();
  runs_.reset();
  trees_.reset();
  // There may have been more than one training takes.
  if (done) learned();
}

Result<void> TreesKeeper::take_over(const wire::Train::Reply& reply) {
  if (reply.trees_bytes > trees_.size())
    return error(Code::corrupt, "the trainer says that it wrote more than there is room for");
  // It may still write there: copied before it is looked at.
  const std::vector<std::byte> copy(trees_.data(), trees_.data() + reply.trees_bytes);
  std::vector<TrainedKey> trained = TRY(read_trained(copy));
  for (const TrainedKey& one : trained)
    if (std::ranges::find(asked_, one.key) == asked_.end())
      return error(Code::corrupt, "the trainer tells of what it was not asked for");
  for (TrainedKey& one : trained) take(std::move(one), true);
  ++trainings_;
  cpu_ns_ += reply.cpu_ns;
  if (store_ != nullptr) store_->changed();
  return {};
}

void TreesKeeper::take(TrainedKey trained, bool is_new) {
  costs_.adopt(trained, is_new);
  std::erase_if(kept_, [&](const TrainedKey& one) { return one.key == trained.key; });
  kept_.push_back(std::move(trained));
  if (kept_.size() > max_trained_keys) drop_one();
}

/// The oldest of the user who has most, so that nobody can crowd out others.
void TreesKeeper::drop_one() {
  std::map<std::uint32_t, std::size_t> counts;
  for (const TrainedKey& one : kept_) ++counts[one.key.codelet.user];
  const std::uint32_t user =
      std::ranges::max_element(counts, {}, [](const auto& count) { return count.second; })->first;
  const auto oldest = std::ranges::find_if(
      kept_, [&](const TrainedKey& one) { return one.key.codelet.user == user; });
  costs_.adopt({oldest->key, {}, nullptr}, true);
  kept_.erase(oldest);
}

// ---- listings -----------------------------------------------------------------------------------

const TrainedKey* TreesKeeper::at(std::uint64_t index, std::uint32_t user, bool all_users) const {
  for (const TrainedKey& one : kept_)
    if ((all_users || one.key.codelet.user == user) && index-- == 0) return &one;
  return nullptr;
}

proto::scheduler::Training::Reply TreesKeeper::describe() const {
  return {trainings_, cpu_ns_, is_available_ ? 1u : 0u, asked_.empty() ? 0u : 1u,
          proto::Text<128>::from(text_)};
}

}  // namespace aios::scheduler
