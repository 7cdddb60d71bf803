// The job k-means: points are read by the module's codelets `measure` and `read`, every step is
// kmeans_assign and kmeans_sum over chunks of them, wherever the scheduler places these, and what
// the shares add up to moves the centres here.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <utility>

#include "abi/include/aios/codelet.h"
#include "abi/lib/mapreduce/device_job.hpp"
#include "abi/lib/mapreduce/kmeans.hpp"
#include "abi/lib/mapreduce/place.hpp"
#include "abi/lib/mapreduce/unpack.hpp"

namespace aios::mapreduce_client {

namespace {

constexpr const char* usage =
    "the arguments are k=NUMBER [iterations=NUMBER] [tolerance=NUMBER] [seed=NUMBER]";
constexpr std::uint64_t max_centres = 1u << 20;
constexpr std::uint64_t max_iterations = 1'000'000;
constexpr std::uint64_t max_points = 1u << 31;
constexpr std::uint64_t max_cells = 1u << 31;
/// Points whose sums one block adds up, always the same ones: sums do not depend on where.
constexpr std::uint64_t share_points = 1024;
/// A task has at least so many shares, and a step at most so many pairs of tasks.
constexpr std::uint64_t least_shares = 16;
constexpr std::uint64_t max_chunks = 64;
constexpr std::uint64_t alignment = 4096;
constexpr std::size_t text_bytes = 1u << 20;

std::uint64_t parts_of(std::uint64_t all, std::uint64_t each) {
  return (all + each - 1) / each;
}

template <class Arguments>
void set_arguments(DeviceTasks::Record& record, const Arguments& arguments) {
  static_assert(sizeof arguments <= sizeof record.arguments);
  record.argument_bytes = sizeof arguments;
  std::memcpy(record.arguments, &arguments, sizeof arguments);
}

std::string mib(std::uint64_t bytes) {
  return std::to_string(parts_of(bytes, 1u << 20)) + " MiB";
}

/// Where in its region each array of the steps lies.
struct Layout {
  Layout(std::uint64_t points, std::uint32_t dimensions, std::uint32_t centres)
      : shares(parts_of(points, share_points)) {
    const std::uint64_t cells = std::uint64_t{centres} * dimensions;
    labels = place(cells * sizeof(float));
    sums = place(points * sizeof(std::uint32_t));
    counts = place(shares * cells * sizeof(float));
    bytes = place(shares * centres * sizeof(std::uint32_t));
  }
  std::uint64_t shares;
  std::uint64_t labels, sums, counts, bytes;  ///< the centres lie at 0

 private:
  /// The end of an array of `length` that follows the last one.
  std::uint64_t place(std::uint64_t length) {
    return end_ = parts_of(end_ + length, alignment) * alignment;
  }
  std::uint64_t end_ = 0;
};

class KMeansJob final : public DeviceJob {
 public:
  using DeviceJob::DeviceJob;

 private:
  struct Measured {
    std::uint64_t points = 0;
    std::uint64_t dimensions = 0;
  };
  struct Chunk {
    std::uint64_t points;
    std::uint64_t shares;
    std::uint32_t points_buffer, labels_buffer, sums_buffer, counts_buffer;
  };
  using Record = DeviceTasks::Record;
  using Completion = DeviceTasks::Completion;
  /// Makes the task of a split, but for its files, if it needs one.
  using Begin = std::function<Result<std::optional<Record>>(std::size_t split)>;
  using End = std::function<Result<void>(std::size_t split, const Completion&)>;

  Result<void> check_arguments() override;
  Result<void> work(std::span<const std::byte> module) override;

  Result<void> read_points();
  Result<void> measure();
  Result<void> make_room();
  Result<void> read();
  Result<void> over_splits(const Begin& begin, const End& end);
  Result<std::vector<std::uint32_t>> lend(std::size_t split);
  std::unexpected<Status> failed(std::size_t split, const Completion& completion);

  Result<void> make_chunks();
  Result<void> iterate();
  Result<void> assign_points();
  void assign(const Chunk& chunk);
  ShareSums shares() const;
  Result<void> write_output();

  PointView points() const {
    return {reinterpret_cast<const float*>(points_.data()), count_, dimensions_};
  }
  std::span<float> centres() const {
    return {reinterpret_cast<float*>(state_.data()), std::size_t{given_.k} * dimensions_};
  }

  KMeansArguments given_{};

  std::uint32_t measure_ = 0, read_ = 0, assign_ = 0, sum_ = 0;  ///< codelets
  SplitPlan plan_;
  std::vector<Measured> measured_;
  std::uint64_t count_ = 0;  ///< of points
  std::uint32_t dimensions_ = 0;
  Region points_;
  Region state_;
  std::optional<Layout> layout_;
  std::uint32_t centres_buffer_ = 0;
  std::vector<Chunk> chunks_;
  std::vector<std::uint64_t> points_of_;
};

Result<void> KMeansJob::check_arguments() {
  given_ = TRY(kmeans_arguments(options_));
  return {};
}

Result<void> KMeansJob::work(std::span<const std::byte> module) {
  const auto own = TRY(tasks_->codelets(module, {"measure", "read"}));
  const auto step = TRY(
      tasks_->codelets(TRY(device_codelets(module, "kmeans")), {"kmeans_assign", "kmeans_sum"}));
  measure_ = own[0], read_ = own[1], assign_ = step[0], sum_ = step[1];
  TRY(read_points());
  const auto first = TRY(first_centres(points(), count_, given_.k, given_.seed));
  std::copy(first.begin(), first.end(), centres().begin());
  TRY(make_chunks());
  TRY(iterate());
  return write_output();
}

// ---- reading ------------------------------------------------------------------------------------

Result<void> KMeansJob::read_points() {
  const UnpackedInputs unpacked = TRY(UnpackedInputs::create(
      files_, output_->temporary_path() + "/unpacked", preparing(Phase::unpacking)));
  plan_ = plan_splits(files_, options_.threads,
                      pieces_per_split(options_.threads, options_.open_files));
  report_.input_bytes = plan_.input_bytes;
  TRY(measure());
  TRY(make_room());
  return read();
}

/// How many points every split has; the first one says how many numbers a point has.
Result<void> KMeansJob::measure() {
  measured_.resize(plan_.splits.size());
  TRY(over_splits(
      [this](std::size_t) -> Result<std::optional<Record>> {
        Record record = make_task(0, measure_);
        set_arguments(record, std::uint64_t{0});
        return record;
      },
      [this](std::size_t split, const Completion& done) -> Result<void> {
        measured_[split] = {done.result[0], done.result[1]};
        return {};
      }));
  std::uint64_t dimensions = 0;
  for (const Measured& one : measured_) {
    if (dimensions == 0) dimensions = one.dimensions;
    count_ += one.points;
  }
  if (count_ == 0) return error(Code::invalid_argument, "there is no point in the input");
  if (count_ > max_points)
    return error(Code::too_large, "the input has " + std::to_string(count_) +
                                      " points, and k-means takes at most 2147483648");
  dimensions_ = static_cast<std::uint32_t>(dimensions);
  report_.progress.records = count_;
  return {};
}

Result<void> KMeansJob::make_room() {
  TRY(check_centres(given_.k, count_));
  if (std::uint64_t{given_.k} * dimensions_ > max_cells)
    return error(Code::too_large, "k=" + std::to_string(given_.k) + " centres of " +
                                      std::to_string(dimensions_) +
                                      " numbers are more than 2147483648 numbers");
  layout_.emplace(count_, dimensions_, given_.k);
  const std::uint64_t points_bytes = count_ * dimensions_ * sizeof(float);
  const std::uint64_t needed = points_bytes + layout_->bytes;
  if (needed > memory_bytes())
    return error(Code::too_large, "k-means keeps all points in memory: " + std::to_string(count_) +
                                      " of " + std::to_string(dimensions_) +
                                      " numbers with k=" + std::to_string(given_.k) + " need " +
                                      mib(needed) + ", and the job may use " + mib(memory_bytes()) +
                                      "; run it with a larger --memory-mb");
  points_ = TRY(Region::create(kernel_, points_bytes, "k-means-points"));
  state_ = TRY(Region::create(kernel_, layout_->bytes, "k-means"));
  return {};
}

Result<void> KMeansJob::read() {
  struct {
    std::uint64_t points;
    std::uint32_t dimensions;
    std::uint32_t reserved;
  } arguments{0, dimensions_, 0};
  const std::uint64_t row_bytes = dimensions_ * sizeof(float);
  std::map<std::size_t, std::uint32_t> rows;  // the buffer of each split under way
  std::uint64_t at = 0;
  return over_splits(
      [&](std::size_t split) -> Result<std::optional<Record>> {
        const std::uint64_t bytes = measured_[split].points * row_bytes;
        report_.progress.mapped_bytes += plan_.splits[split].bytes;
        if (bytes == 0) return std::optional<Record>();
        rows[split] = TRY(tasks_->memory(points_, {{at, bytes, true}}))[0];
        at += bytes;
        Record record = make_task(0, read_);
        add_buffer(record, rows[split], AIOS_MODE_WRITE);
        arguments.points = measured_[split].points;
        set_arguments(record, arguments);
        return record;
      },
      [&](std::size_t split, const Completion&) -> Result<void> {
        TRY(tasks_->release(std::span(&rows.at(split), 1)));
        rows.erase(split);
        return {};
      });
}

/// One task for each split, a few at a time.
Result<void> KMeansJob::over_splits(const Begin& begin, const End& end) {
  struct Running {
    std::size_t split;
    std::vector<std::uint32_t> files;
  };
  std::map<std::uint64_t, Running> running;
  for (std::size_t next = 0; next < plan_.splits.size() || !running.empty();) {
    while (next < plan_.splits.size() && running.size() < options_.threads + 1) {
      const std::size_t split = next++;
      auto record = TRY(begin(split));
      if (!record) continue;
      auto files = TRY(lend(split));
      Running one{split, std::move(files)};
      for (const std::uint32_t file : one.files) add_buffer(*record, file, AIOS_MODE_READ);
      record->limit_ns = options_.task_limit_ns;
      running.emplace(tasks_->add(*record), std::move(one));
      TRY(tasks_->submit());
    }
    if (running.empty()) continue;
    for (const Completion& done : TRY(tasks_->completions())) {
      const auto found = running.extract(done.tag);
      if (found.empty())
        return error(Code::protocol_error, "the scheduler finished an unknown task");
      if (done.status != 0) return failed(found.mapped().split, done);
      TRY(tasks_->release(found.mapped().files));
      TRY(end(found.mapped().split, done));
    }
  }
  return {};
}

Result<std::vector<std::uint32_t>> KMeansJob::lend(std::size_t split) {
  const Split& which = plan_.splits[split];
  const auto pieces = std::span(plan_.pieces).subspan(which.first_piece, which.pieces);
  std::vector<std::uint32_t> buffers;
  for (const Handle channel : TRY(lend_pieces(kernel_, files_, pieces)))
    buffers.push_back(TRY(tasks_->files(channel)));
  return buffers;
}

std::unexpected<Status> KMeansJob::failed(std::size_t split, const Completion& completion) {
  const Status why = tasks_->failure(completion);
  const PlacedText taken = take_place(why.message());
  const Split& which = plan_.splits[split];
  const std::uint64_t piece = taken.place ? taken.place->piece : 0;
  if (piece >= which.pieces) return std::unexpected(why);
  const std::string& name = files_[plan_.pieces[which.first_piece + piece].file].name();
  if (!taken.place) return error(why.code(), name + " or a file after it: " + why.message());
  return error(why.code(),
               name + ", at byte " + std::to_string(taken.place->offset) + ": " + taken.text);
}

// ---- steps --------------------------------------------------------------------------------------

Result<void> KMeansJob::make_chunks() {
  const std::uint64_t cells = std::uint64_t{given_.k} * dimensions_;
  const std::uint64_t chunk_shares = std::max(least_shares, parts_of(layout_->shares, max_chunks));
  centres_buffer_ = TRY(tasks_->memory(state_, {{0, cells * sizeof(float), false}}))[0];
  for (std::uint64_t share = 0; share < layout_->shares; share += chunk_shares) {
    const std::uint64_t first = share * share_points;
    const std::uint64_t row_bytes = dimensions_ * sizeof(float);
    Chunk chunk{};
    chunk.shares = std::min(chunk_shares, layout_->shares - share);
    chunk.points = std::min(chunk.shares * share_points, count_ - first);
    chunk.points_buffer =
        TRY(tasks_->memory(points_, {{first * row_bytes, chunk.points * row_bytes, false}}))[0];
    const auto array = [](std::uint64_t begin, std::uint64_t at, std::uint64_t count) {
      return DeviceTasks::Range{begin + at * sizeof(float), count * sizeof(float), true};
    };
    const auto made = TRY(tasks_->memory(
        state_, {array(layout_->labels, first, chunk.points),
                 array(layout_->sums, share * cells, chunk.shares * cells),
                 array(layout_->counts, share * given_.k, chunk.shares * given_.k)}));
    chunk.labels_buffer = made[0], chunk.sums_buffer = made[1], chunk.counts_buffer = made[2];
    chunks_.push_back(chunk);
  }
  return {};
}

void KMeansJob::assign(const Chunk& chunk) {
  constexpr std::uint32_t block_threads = 256;
  const auto n = static_cast<std::uint32_t>(chunk.points);
  Record assign = make_task(0, assign_);
  assign.limit_ns = options_.task_limit_ns;
  assign.grid[0] = static_cast<std::uint32_t>(parts_of(n, block_threads));
  add_buffer(assign, chunk.points_buffer, AIOS_MODE_READ);
  add_buffer(assign, centres_buffer_, AIOS_MODE_READ);
  add_buffer(assign, chunk.labels_buffer, AIOS_MODE_WRITE);
  set_arguments(assign, std::array<std::uint32_t, 3>{n, dimensions_, given_.k});
  Record sum = make_task(0, sum_);
  sum.limit_ns = options_.task_limit_ns;
  sum.grid[0] = static_cast<std::uint32_t>(chunk.shares);
  add_buffer(sum, chunk.points_buffer, AIOS_MODE_READ);
  add_buffer(sum, chunk.labels_buffer, AIOS_MODE_READ);
  add_buffer(sum, chunk.sums_buffer, AIOS_MODE_WRITE);
  add_buffer(sum, chunk.counts_buffer, AIOS_MODE_WRITE);
  set_arguments(sum, std::array<std::uint32_t, 4>{n, dimensions_, given_.k, share_points});
  sum.dependencies[sum.dependency_count++] = static_cast<std::uint32_t>(tasks_->add(assign));
  tasks_->add(sum);
}

ShareSums KMeansJob::shares() const {
  const std::size_t counts = layout_->shares * given_.k;
  return {{reinterpret_cast<const float*>(state_.data() + layout_->sums), counts * dimensions_},
          {reinterpret_cast<const std::uint32_t*>(state_.data() + layout_->counts), counts},
          dimensions_};
}

/// Every point to its nearest centre, and the points of each centre added up.
Result<void> KMeansJob::assign_points() {
  for (const Chunk& chunk : chunks_) assign(chunk);
  TRY(tasks_->submit());
  TRY(tasks_->finish_all());
  points_of_ = TRY(points_of_centres(shares(), given_.k, count_));
  return {};
}

Result<void> KMeansJob::iterate() {
  auto& progress = report_.progress;
  progress.phase = static_cast<std::uint32_t>(proto::mapreduce::Phase::reduce);
  progress.merge_bytes = given_.iterations * points_.size();
  std::uint64_t iterations = 0;
  double moved = 0;
  bool converged = false;
  while (!converged && iterations < given_.iterations) {
    TRY(assign_points());
    moved = move_centres(shares(), points_of_, centres());
    converged = moved <= given_.tolerance;
    ++iterations;
    progress.merged_bytes += points_.size();
    // A step may take less time than it takes a wait to ask.
    if (!keep_going()) return error(Code::cancelled, "the job was cancelled");
  }
  // The labels are those of the centres that are written.
  if (moved != 0) TRY(assign_points());
  progress.merged_bytes = progress.merge_bytes;
  report_.counters = {{"points", count_},
                      {"dimensions", dimensions_},
                      {"iterations", iterations},
                      {"converged", std::uint64_t{converged}}};
  if (!converged) {
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", moved);
    report_.notes.push_back("not converged after " + std::to_string(iterations) +
                            " iterations: a centre still moved by " + text +
                            "; allow more with iterations=, or a tolerance=");
  }
  return {};
}

// ---- output -------------------------------------------------------------------------------------

Result<void> KMeansJob::write_output() {
  std::string text;
  for (std::uint32_t centre = 0; centre < given_.k; ++centre) {
    append_centre(text, centre, points_of_[centre],
                  centres().subspan(std::size_t{centre} * dimensions_, dimensions_));
    if (text.size() >= text_bytes) TRY(append(0, std::exchange(text, {})));
  }
  TRY(append(0, std::exchange(text, {})));
  const auto* labels = reinterpret_cast<const std::uint32_t*>(state_.data() + layout_->labels);
  for (std::uint64_t i = 0; i < count_; ++i) {
    text += std::to_string(labels[i]) + '\n';
    if (text.size() < text_bytes) continue;
    TRY(append(1, std::exchange(text, {})));
    if (!keep_going()) return error(Code::cancelled, "the job was cancelled");
  }
  report_.progress.distinct_keys = given_.k;
  return append(1, text);
}

}  // namespace

Result<KMeansArguments> kmeans_arguments(const Options& options) {
  const auto given =
      TRY(JobArguments::parse(options.arguments, {"k", "iterations", "tolerance", "seed"}, usage));
  KMeansArguments all{};
  all.k = static_cast<std::uint32_t>(TRY(given.whole("k", {}, 1, max_centres)));
  all.iterations = TRY(given.whole("iterations", 100, 1, max_iterations));
  all.tolerance = TRY(given.real("tolerance", 0));
  all.seed = TRY(given.whole("seed", 0, 0, ~0ull));
  if (options.max_bad_records != 0)
    return error(Code::invalid_argument, "bad points cannot be skipped");
  return all;
}

std::unique_ptr<DeviceJob> make_kmeans_job(Kernel& kernel, Handle port, const Options& options,
                                           const OnProgress& on_progress) {
  return std::make_unique<KMeansJob>(kernel, port, options, on_progress);
}

}  // namespace aios::mapreduce_client
