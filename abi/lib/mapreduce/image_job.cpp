// The job image-histogram: every file is decoded by the module's codelets `probe` and `decode`, in
// a context of the job, and goes as pixels through grey, sobel and histogram, wherever the
// scheduler places these. All of it is exact, so the output is the same from every device.
#include <algorithm>
#include <array>
#include <cstring>
#include <list>
#include <map>
#include <utility>
#include <vector>

#include "abi/include/aios/codelet.h"
#include "abi/lib/mapreduce/device_job.hpp"

namespace aios::mapreduce_client {

namespace {

constexpr const char* usage = "image-histogram takes no arguments after --";
constexpr std::uint32_t bins = 256;
constexpr std::uint64_t bins_bytes = bins * sizeof(std::uint32_t);
/// Grids have at most 2^24 blocks, and 65,535 downwards.
constexpr std::uint64_t max_pixels = 1u << 28;
constexpr std::uint64_t max_side = 1'000'000;
/// Of an image, for each pixel: three colours, grey, edges; and what a decoder may need, which is
/// most for a progressive JPEG.
constexpr std::uint64_t held_of_pixel = 5;
constexpr std::uint64_t decoding_of_pixel = 8;
/// What one image needs however small it is.
constexpr std::uint64_t least_image_bytes = 256u << 10;
/// Finished images that wait for one before them.
constexpr std::size_t max_ahead = 1024;
/// How often an image is counted again because a context died over it.
constexpr std::uint32_t max_recounts = 10;

std::uint32_t blocks(std::uint64_t all, std::uint64_t each) {
  return static_cast<std::uint32_t>((all + each - 1) / each);
}

/// Counts of pixels by value.
using Histogram = std::array<std::uint64_t, bins>;

void append_counts(std::string& text, const Histogram& histogram) {
  for (std::uint32_t i = 0; i < bins; ++i)
    text += (i == 0 ? '\t' : ',') + std::to_string(histogram[i]);
}

/// As inverted-index writes names.
std::string escaped(const std::string& name) {
  std::string text;
  for (const char c : name) {
    if (c == '\\' || c == '\t' || c == '\n') text += '\\';
    text += c == '\t' ? 't' : c == '\n' ? 'n' : c;
  }
  return text;
}

class ImageJob final : public DeviceJob {
 public:
  using DeviceJob::DeviceJob;

 private:
  using Record = DeviceTasks::Record;
  using Completion = DeviceTasks::Completion;
  enum Step : std::uint32_t { probe, decode, grey, count_grey, edges, count_edges };
  static constexpr std::size_t steps = 6;

  struct Image {
    std::size_t file;
    std::uint32_t file_buffer;
    std::uint64_t width = 0, height = 0;
    std::uint64_t needed_bytes = 0;  ///< counted in used_bytes_ while it has its memory
    Region memory{};
    std::vector<std::uint32_t> buffers{};  ///< colours, grey, edges, and the counts of these two
    std::uint32_t unfinished = 0;          ///< tasks
    bool counted_twice = false;
    std::uint32_t recounts = 0;
    std::optional<Status> failure{};

    std::uint64_t pixels() const { return width * height; }
  };
  using Images = std::list<Image>;
  struct Running {
    Images::iterator image;
    Step step;
  };

  Result<void> check_arguments() override;
  Result<void> work(std::span<const std::byte> module) override;

  Result<void> begin();
  std::uint64_t add(Images::iterator image, Step step, Record record);
  Result<void> finished(const Completion& done);
  Result<void> probed(Images::iterator image, const Completion& done);
  Result<void> fetch_memory();
  Result<void> compute(Images::iterator image);
  Result<void> computed(Images::iterator image);
  Result<void> bad(Images::iterator image, const Status& why);
  Result<void> end(Images::iterator image, std::string line);
  Result<void> write_lines();
  Histogram histogram(const Image& image, std::uint64_t offset) const;

  std::array<std::uint32_t, steps> codelets_{};
  Images images_;                        ///< under way
  std::list<Images::iterator> waiting_;  ///< for memory, in order
  std::map<std::uint64_t, Running> running_;
  std::map<std::size_t, std::string> lines_;  ///< finished, and one before them is not
  std::size_t next_ = 0;                      ///< file to begin with
  std::size_t written_ = 0;                   ///< files whose lines are written
  std::uint64_t used_bytes_ = 0;
  std::uint64_t image_count_ = 0, pixel_count_ = 0;
  Histogram all_grey_{}, all_edges_{};
};

Result<void> ImageJob::check_arguments() {
  return check_image_arguments(options_);
}

Result<void> ImageJob::work(std::span<const std::byte> module) {
  const auto own = TRY(tasks_->codelets(module, {"probe", "decode"}));
  const auto image =
      TRY(tasks_->codelets(TRY(device_codelets(module, "image")), {"grey", "sobel"}));
  const auto vector = TRY(tasks_->codelets(TRY(device_codelets(module, "vector")), {"histogram"}));
  codelets_ = {own[0], own[1], image[0], vector[0], image[1], vector[0]};
  while (next_ < files_.size() || !images_.empty()) {
    TRY(begin());
    TRY(fetch_memory());
    if (running_.empty()) continue;
    TRY(tasks_->submit());
    for (const Completion& done : TRY(tasks_->completions())) TRY(finished(done));
  }
  std::string total = std::to_string(image_count_) + '\t' + std::to_string(pixel_count_);
  append_counts(total, all_grey_);
  append_counts(total, all_edges_);
  report_.progress.records = report_.progress.distinct_keys = image_count_;
  report_.counters = {{"images", image_count_}, {"pixels", pixel_count_}};
  std::sort(report_.skipped.begin(), report_.skipped.end(),
            [](const SkippedRecord& a, const SkippedRecord& b) { return a.file < b.file; });
  return append(1, total + '\n');
}

/// Looks at further files, as many at a time as tasks can run.
Result<void> ImageJob::begin() {
  while (next_ < files_.size() && images_.size() <= options_.threads &&
         next_ - written_ < max_ahead) {
    const std::size_t file = next_++;
    if (files_[file].size_bytes == 0) {
      images_.push_front({file, 0});
      TRY(bad(images_.begin(), Status(Code::corrupt, "the file is empty")));
      continue;
    }
    const Piece whole{static_cast<std::uint32_t>(file), 0, files_[file].size_bytes};
    const auto channels = TRY(lend_pieces(kernel_, files_, std::span(&whole, 1)));
    const std::uint32_t buffer = TRY(tasks_->files(channels.front()));
    images_.push_front({file, buffer});
    Record record = make_task(0, codelets_[probe]);
    add_buffer(record, images_.front().file_buffer, AIOS_MODE_READ);
    record.argument_bytes = sizeof(std::uint64_t);
    add(images_.begin(), probe, record);
  }
  return {};
}

/// The task's tag.
std::uint64_t ImageJob::add(Images::iterator image, Step step, Record record) {
  record.limit_ns = options_.task_limit_ns;
  ++image->unfinished;
  const std::uint64_t tag = tasks_->add(record);
  running_.emplace(tag, Running{image, step});
  return tag;
}

Result<void> ImageJob::finished(const Completion& done) {
  const auto found = running_.extract(done.tag);
  if (found.empty()) return error(Code::protocol_error, "the scheduler finished an unknown task");
  const auto [image, step] = found.mapped();
  --image->unfinished;
  // The first says why; those after it were cancelled for it.
  if (done.status != 0 && !image->failure) image->failure = tasks_->failure(done);
  if (done.attempts > 1 && (step == count_grey || step == count_edges)) image->counted_twice = true;
  if (image->unfinished != 0) return {};
  if (image->failure) return bad(image, *image->failure);
  return step == probe ? probed(image, done) : computed(image);
}

Result<void> ImageJob::probed(Images::iterator image, const Completion& done) {
  image->width = done.result[0];
  image->height = done.result[1];
  const std::string size =
      std::to_string(image->width) + " x " + std::to_string(image->height) + " pixels";
  if (image->width == 0 || image->height == 0)
    return bad(image, Status(Code::corrupt, "the image has " + size));
  if (image->width > max_side || image->height > max_side || image->pixels() > max_pixels)
    return bad(image, Status(Code::too_large, "the image has " + size +
                                                  "; at most 268435456 are taken, and 1000000 to a "
                                                  "side"));
  image->needed_bytes = image->pixels() * (held_of_pixel + decoding_of_pixel) + least_image_bytes;
  if (image->needed_bytes > memory_bytes())
    return bad(image, Status(Code::too_large, "the image has " + size + " and needs " +
                                                  std::to_string((image->needed_bytes >> 20) + 1) +
                                                  " MiB, and the job may use " +
                                                  std::to_string(memory_bytes() >> 20) +
                                                  "; run it with a larger --memory-mb"));
  waiting_.push_back(image);
  return {};
}

/// The first that waits is never passed by, so that a large one has its turn.
Result<void> ImageJob::fetch_memory() {
  while (!waiting_.empty() && used_bytes_ + waiting_.front()->needed_bytes <= memory_bytes()) {
    const Images::iterator image = waiting_.front();
    waiting_.pop_front();
    used_bytes_ += image->needed_bytes;
    const std::uint64_t pixels = image->pixels();
    image->memory = TRY(Region::create(kernel_, 2 * bins_bytes + held_of_pixel * pixels, "image"));
    const std::uint64_t colours = 2 * bins_bytes, greys = colours + 3 * pixels;
    image->buffers = TRY(tasks_->memory(image->memory, {{colours, 3 * pixels, true},
                                                        {greys, pixels, true},
                                                        {greys + pixels, pixels, true},
                                                        {0, bins_bytes, true},
                                                        {bins_bytes, bins_bytes, true}}));
    TRY(compute(image));
  }
  return {};
}

Result<void> ImageJob::compute(Images::iterator image) {
  const auto width = static_cast<std::uint32_t>(image->width);
  const auto height = static_cast<std::uint32_t>(image->height);
  const auto pixels = static_cast<std::uint32_t>(image->pixels());
  const std::uint32_t colours = image->buffers[0], greys = image->buffers[1];
  const std::uint32_t edge = image->buffers[2];
  std::memset(image->memory.data(), 0, 2 * bins_bytes);
  const auto task = [&](Step step, std::array<std::uint32_t, 2> arguments, std::size_t count) {
    Record record = make_task(0, codelets_[step]);
    record.argument_bytes = static_cast<std::uint32_t>(count * sizeof arguments[0]);
    std::memcpy(record.arguments, arguments.data(), record.argument_bytes);
    return record;
  };
  const auto follow = [](Record& record, std::uint64_t tag) {
    record.dependencies[record.dependency_count++] = static_cast<std::uint32_t>(tag);
  };

  Record decoding = task(decode, {width, height}, 2);
  add_buffer(decoding, colours, AIOS_MODE_WRITE);
  add_buffer(decoding, image->file_buffer, AIOS_MODE_READ);
  const std::uint64_t decoded = add(image, decode, decoding);

  Record greying = task(grey, {pixels, 0}, 1);
  greying.grid[0] = blocks(pixels, 256);
  add_buffer(greying, colours, AIOS_MODE_READ);
  add_buffer(greying, greys, AIOS_MODE_WRITE);
  follow(greying, decoded);
  const std::uint64_t greyed = add(image, grey, greying);

  Record finding = task(edges, {height, width}, 2);
  finding.grid[0] = blocks(width, 16);
  finding.grid[1] = blocks(height, 16);
  add_buffer(finding, greys, AIOS_MODE_READ);
  add_buffer(finding, edge, AIOS_MODE_WRITE);
  follow(finding, greyed);
  const std::uint64_t found = add(image, edges, finding);

  const auto count = [&](Step step, std::uint32_t values, std::uint32_t counts,
                         std::uint64_t after) {
    Record counting = task(step, {pixels, 0}, 1);
    counting.grid[0] = blocks(pixels, 4096);
    add_buffer(counting, values, AIOS_MODE_READ);
    add_buffer(counting, counts, AIOS_MODE_READ_WRITE);
    follow(counting, after);
    add(image, step, counting);
  };
  count(count_grey, greys, image->buffers[3], greyed);
  count(count_edges, edge, image->buffers[4], found);
  return {};
}

Histogram ImageJob::histogram(const Image& image, std::uint64_t offset) const {
  std::array<std::uint32_t, bins> counts;
  std::memcpy(counts.data(), image.memory.data() + offset, sizeof counts);
  Histogram histogram;
  std::copy(counts.begin(), counts.end(), histogram.begin());
  return histogram;
}

Result<void> ImageJob::computed(Images::iterator image) {
  if (std::exchange(image->counted_twice, false)) {
    // A context died while it counted, and what it had counted would count twice.
    if (++image->recounts > max_recounts)
      return error(Code::crashed, files_[image->file].name() + ": contexts died over it " +
                                      std::to_string(max_recounts) + " times");
    return compute(image);
  }
  const Histogram grey_counts = histogram(*image, 0);
  const Histogram edge_counts = histogram(*image, bins_bytes);
  std::string line = escaped(files_[image->file].name()) + '\t' + std::to_string(image->width) +
                     '\t' + std::to_string(image->height);
  append_counts(line, grey_counts);
  append_counts(line, edge_counts);
  for (std::uint32_t i = 0; i < bins; ++i) {
    all_grey_[i] += grey_counts[i];
    all_edges_[i] += edge_counts[i];
  }
  ++image_count_;
  pixel_count_ += image->pixels();
  report_.progress.records = image_count_;
  return end(image, line + '\n');
}

Result<void> ImageJob::bad(Images::iterator image, const Status& why) {
  const std::string& name = files_[image->file].name();
  if (!is_about_input(why.code()) || options_.max_bad_records == 0)
    return error(why.code(), name + ": " + why.message());
  if (report_.skipped.size() == options_.max_bad_records)
    return error(why.code(), name + ": one bad image more than the " +
                                 std::to_string(options_.max_bad_records) +
                                 " that may be skipped: " + why.message());
  report_.skipped.push_back({name, 0, why.code()});
  ++report_.progress.skipped_records;
  return end(image, {});
}

Result<void> ImageJob::end(Images::iterator image, std::string line) {
  std::vector<std::uint32_t> done_with = std::move(image->buffers);
  if (files_[image->file].size_bytes != 0) done_with.push_back(image->file_buffer);
  if (image->memory.valid()) used_bytes_ -= image->needed_bytes;
  TRY(tasks_->release(done_with));
  report_.progress.mapped_bytes += files_[image->file].size_bytes;
  lines_.emplace(image->file, std::move(line));
  images_.erase(image);
  return write_lines();
}

Result<void> ImageJob::write_lines() {
  while (!lines_.empty() && lines_.begin()->first == written_) {
    TRY(append(0, lines_.begin()->second));
    lines_.erase(lines_.begin());
    ++written_;
  }
  return {};
}

}  // namespace

Result<void> check_image_arguments(const Options& options) {
  TRY(JobArguments::parse(options.arguments, {}, usage));
  return {};
}

std::unique_ptr<DeviceJob> make_image_job(Kernel& kernel, Handle port, const Options& options,
                                          const OnProgress& on_progress) {
  return std::make_unique<ImageJob>(kernel, port, options, on_progress);
}

}  // namespace aios::mapreduce_client
