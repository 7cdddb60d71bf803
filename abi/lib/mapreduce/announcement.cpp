#include "abi/lib/mapreduce/announcement.hpp"

#include <algorithm>
#include <utility>

namespace aios::mapreduce_client {

namespace {

namespace wire = proto::mapreduce;

/// Of one call: what is being unpacked waits for it.
constexpr std::uint64_t tell_ns = 5 * ns_per_s;
/// A service that answers slowly, or not at all, is told more seldom: at most one part in five of
/// the time is spent on it.
constexpr std::uint64_t rest_for_each_wait = 4;

}  // namespace

Announcement::Announcement(Kernel& kernel, Handle port, const Options& options,
                           const OnProgress& on_progress, Leader leader)
    : options_(options), on_progress_(on_progress), leader_(leader) {
  listed_.client = std::make_unique<Client>(kernel, nullptr, port, wire::Protocol::version,
                                            wire::Protocol::name);
}

Result<void> Announcement::begin(std::uint64_t input_bytes) {
  if (!tell({}, input_bytes)) return std::unexpected(*ended_);
  return {};
}

Result<UnpackedInputs> Announcement::prepare(Inputs& inputs, std::vector<InputFile>& files,
                                             const OutputFolder& output) {
  const std::string folder = output.temporary_path();
  const Result<void> fetched = inputs.fetch(files, folder + "/objects", during(Phase::fetching));
  if (ended_) return std::unexpected(*ended_);
  if (!fetched) return std::unexpected(fetched.error());
  auto unpacked = UnpackedInputs::create(files, folder + "/unpacked", during(Phase::unpacking));
  if (ended_) return std::unexpected(*ended_);
  if (unpacked && told_ != static_cast<std::uint32_t>(Phase::map)) TRY(begin(total_bytes(files)));
  return unpacked;
}

OnBytes Announcement::during(Phase phase) {
  return [this, phase](std::uint64_t done_bytes, std::uint64_t all_bytes) {
    wire::Progress progress{};
    progress.phase = static_cast<std::uint32_t>(phase);
    progress.mapped_bytes = done_bytes;
    return tell(progress, all_bytes);
  };
}

bool Announcement::tell(const wire::Progress& progress, std::uint64_t input_bytes) {
  if (ended_) return false;
  if (on_progress_ && !on_progress_(progress, input_bytes)) {
    ended_ = Status(Code::cancelled, "the job was cancelled");
    return false;
  }
  const std::uint64_t begin_ns = now_ns();
  if (told_ == progress.phase && begin_ns < tell_next_ns_) return true;
  told_ = progress.phase;
  if (const Result<void> told = tell_service(progress, input_bytes); !told) ended_ = told.error();
  const std::uint64_t end_ns = now_ns();
  tell_next_ns_ =
      end_ns + std::max(wire::progress_interval_ns, rest_for_each_wait * (end_ns - begin_ns));
  return !ended_;
}

Result<void> Announcement::tell_service(const wire::Progress& progress, std::uint64_t input_bytes) {
  wire::Prepare::Request request{};
  request.job = listed_.job;
  request.input_bytes = input_bytes;
  request.progress = progress;
  request.reducers = leader_ == Leader::client ? 0 : options_.reducers;
  request.threads = options_.threads;
  request.label = decltype(request.label)::from(options_.label);
  const auto reply = listed_.client->call<wire::Prepare>(request, Deadline::after(tell_ns));
  if (reply) {
    listed_.job = reply->job;
    return {};
  }
  // Of these no later call would be better. After others the service may have forgotten the job, or
  // list one that we do not know of; it forgets all of it with the link.
  const Code code = reply.error().code();
  if (code == Code::cancelled || code == Code::quota || code == Code::invalid_argument ||
      code == Code::version_mismatch || (code == Code::service_down && leader_ == Leader::service))
    return std::unexpected(reply.error());
  listed_.client->disconnect();
  listed_.job = 0;
  return {};
}

Announcement::Listed Announcement::take() {
  return std::exchange(listed_, {});
}

}  // namespace aios::mapreduce_client
