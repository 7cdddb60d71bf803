// Jobs that compute on devices. Their module names, in a section of its own, which of them it is
// for, and brings the codelets of every stage; the client leads them through their stages, as tasks
// of its own job that the scheduler places. Input, output and commit are as of every job.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "abi/lib/mapreduce/announcement.hpp"
#include "abi/lib/mapreduce/client.hpp"
#include "abi/lib/mapreduce/devices.hpp"
#include "abi/lib/mapreduce/input.hpp"
#include "abi/lib/mapreduce/output.hpp"

namespace aios::mapreduce_client {

/// The job that a module is for: "k-means", "image-histogram". Nothing for a module with a mapper
/// and a reducer.
std::optional<std::string> device_job_of(std::span<const std::byte> module);

/// Refuses what such jobs cannot do. invalid_argument, not_supported.
Result<void> check_device_options(const Options& options);
/// Refuses such a job in a chain, after the first one. not_supported.
Result<void> check_later_stage(const Stage& stage, std::span<const std::byte> module);

/// Such a job and its arguments, all of them, checked, as a JSON object: for engines that lead it
/// themselves. invalid_argument, not_supported.
Result<std::string> describe_device_job(const std::string& name, const Options& options);

/// Runs the job called `name` as mapreduce_client::run does; the service at `port` lists it.
/// not_supported: no such job here.
Result<Report> run_device_job(Kernel& kernel, Handle port, const std::string& name,
                              std::span<const std::byte> module, const Options& options,
                              const OnProgress& on_progress);

/// Arguments of the form NAME=VALUE.
class JobArguments {
 public:
  /// invalid_argument, naming it: one that is not of this form, not among `known`, or given twice.
  /// `usage` follows in the message.
  static Result<JobArguments> parse(std::span<const std::string> arguments,
                                    std::initializer_list<std::string_view> known,
                                    std::string usage);

  /// Within [least, most]; `otherwise` when it is left out, and without that it must be there.
  Result<std::uint64_t> whole(std::string_view name, std::optional<std::uint64_t> otherwise,
                              std::uint64_t least, std::uint64_t most) const;
  /// Finite and not negative.
  Result<double> real(std::string_view name, double otherwise) const;

 private:
  std::unexpected<Status> bad(const std::string& what) const;

  std::map<std::string, std::string, std::less<>> values_;
  std::string usage_;
};

struct KMeansArguments {
  std::uint32_t k;
  std::uint64_t iterations;
  double tolerance;
  std::uint64_t seed;
};
Result<KMeansArguments> kmeans_arguments(const Options& options);
Result<void> check_image_arguments(const Options& options);

/// One run of one: derived classes say what its stages are.
class DeviceJob {
 public:
  DeviceJob(Kernel& kernel, Handle port, const Options& options, const OnProgress& on_progress);
  DeviceJob(const DeviceJob&) = delete;
  virtual ~DeviceJob() = default;

  Result<Report> run(std::span<const std::byte> module);

 protected:
  static constexpr std::uint32_t parts = 2;

  /// Before anything is read or written.
  virtual Result<void> check_arguments() = 0;
  /// From the walked input to written parts; `report_` is filled as far as it goes.
  virtual Result<void> work(std::span<const std::byte> module) = 0;

  /// Tells how far it is; false when it is to end.
  bool keep_going();
  /// The same, while input is copied or unpacked.
  using Phase = proto::mapreduce::Phase;
  OnBytes preparing(Phase phase) { return announcement_.during(phase); }
  /// What the job may hold at once.
  std::uint64_t memory_bytes() const;
  /// The codelets that the module brings for every device, made of drivers/device/codelets/NAME.kc.
  static Result<std::span<const std::byte>> device_codelets(std::span<const std::byte> module,
                                                            std::string_view name);
  Result<void> append(std::uint32_t part, std::string_view text) {
    return output_->append(part, std::as_bytes(std::span(text)));
  }

  Kernel& kernel_;
  const Options& options_;
  std::vector<InputFile> files_;
  std::unique_ptr<OutputFolder> output_;
  std::unique_ptr<DeviceTasks> tasks_;
  Report report_;

 private:
  Result<void> compute(std::span<const std::byte> module);
  Result<Report> commit(std::uint64_t begin_ns);

  Announcement announcement_;
};

/// The jobs.
std::unique_ptr<DeviceJob> make_kmeans_job(Kernel& kernel, Handle port, const Options& options,
                                           const OnProgress& on_progress);
std::unique_ptr<DeviceJob> make_image_job(Kernel& kernel, Handle port, const Options& options,
                                          const OnProgress& on_progress);

}  // namespace aios::mapreduce_client
