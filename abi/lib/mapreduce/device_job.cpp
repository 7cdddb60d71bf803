#include "abi/lib/mapreduce/device_job.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "abi/lib/mapreduce/objects.hpp"
#include "abi/runtime/elf_sections.hpp"

namespace aios::mapreduce_client {

namespace {

constexpr std::string_view name_section = ".aios.device_job";
constexpr std::string_view codelet_sections = ".aios.codelets.";

std::optional<std::span<const std::byte>> find_section(std::span<const std::byte> module,
                                                       std::string_view name) {
  const auto sections = ElfSections::open(module);
  return sections ? sections->find(name) : std::nullopt;
}

}  // namespace

std::optional<std::string> device_job_of(std::span<const std::byte> module) {
  const auto found = find_section(module, name_section);
  if (!found) return std::nullopt;
  const std::string_view text(reinterpret_cast<const char*>(found->data()), found->size());
  return std::string(text.substr(0, text.find('\0')));
}

Result<Report> run_device_job(Kernel& kernel, Handle port, const std::string& name,
                              std::span<const std::byte> module, const Options& options,
                              const OnProgress& on_progress) {
  if (name == "k-means") return make_kmeans_job(kernel, port, options, on_progress)->run(module);
  if (name == "image-histogram")
    return make_image_job(kernel, port, options, on_progress)->run(module);
  return error(Code::not_supported, options.module_path + ": is for a job '" + name +
                                        "', which this version of AIOS does not have");
}

// ---- arguments ----------------------------------------------------------------------------------

std::unexpected<Status> JobArguments::bad(const std::string& what) const {
  return error(Code::invalid_argument, what + "; " + usage_);
}

Result<JobArguments> JobArguments::parse(std::span<const std::string> arguments,
                                         std::initializer_list<std::string_view> known,
                                         std::string usage) {
  JobArguments parsed;
  parsed.usage_ = std::move(usage);
  for (const std::string& argument : arguments) {
    const std::size_t equals = argument.find('=');
    if (equals == argument.npos)
      return parsed.bad("'" + argument + "' is not of the form NAME=VALUE");
    const std::string name = argument.substr(0, equals);
    if (std::find(known.begin(), known.end(), name) == known.end())
      return parsed.bad("there is no argument '" + name + "'");
    if (!parsed.values_.emplace(name, argument.substr(equals + 1)).second)
      return parsed.bad(name + " is given twice");
  }
  return parsed;
}

Result<std::uint64_t> JobArguments::whole(std::string_view name,
                                          std::optional<std::uint64_t> otherwise,
                                          std::uint64_t least, std::uint64_t most) const {
  const auto found = values_.find(name);
  if (found == values_.end()) {
    if (otherwise) return *otherwise;
    return bad(std::string(name) + " is missing");
  }
  const std::string& text = found->second;
  std::uint64_t value = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end.ec != std::errc() || end.ptr != text.data() + text.size() || value < least ||
      value > most)
    return bad(found->first + "=" + text + " is no whole number from " + std::to_string(least) +
               " to " + std::to_string(most));
  return value;
}

Result<double> JobArguments::real(std::string_view name, double otherwise) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return otherwise;
  const std::string& text = found->second;
  double value = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end.ec != std::errc() || end.ptr != text.data() + text.size() || !std::isfinite(value) ||
      value < 0)
    return bad(found->first + "=" + text + " is no number from 0 on");
  return value;
}

// ---- a run --------------------------------------------------------------------------------------

DeviceJob::DeviceJob(Kernel& kernel, Handle port, const Options& options,
                     const OnProgress& on_progress)
    : kernel_(kernel),
      options_(options),
      announcement_(kernel, port, options, on_progress, Announcement::Leader::client) {}

std::uint64_t DeviceJob::memory_bytes() const {
  return options_.memory_bytes != 0 ? options_.memory_bytes : default_memory_bytes();
}

Result<std::span<const std::byte>> DeviceJob::device_codelets(std::span<const std::byte> module,
                                                              std::string_view name) {
  const auto found = find_section(module, std::string(codelet_sections) + std::string(name));
  if (!found)
    return error(Code::invalid_argument,
                 "the module does not bring the codelets '" + std::string(name) + "'");
  return *found;
}

bool DeviceJob::keep_going() {
  if (tasks_ != nullptr) {
    report_.progress.tasks = tasks_->tasks();
    report_.progress.attempts = tasks_->attempts();
  }
  return announcement_.tell(report_.progress, report_.input_bytes);
}

Result<Report> DeviceJob::run(std::span<const std::byte> module) {
  const std::uint64_t begin_ns = now_ns();
  TRY(check_device_options(options_));
  if (const Result<void> checked = check_arguments(); !checked)
    return error(checked.error().code(), options_.label + ": " + checked.error().message());
  const Result<void> computed = compute(module);
  if (announcement_.ended()) return std::unexpected(*announcement_.ended());
  TRY(computed);
  return commit(begin_ns);
}

Result<void> check_device_options(const Options& options) {
  if (options.reducers > 1)
    return error(Code::invalid_argument,
                 options.label + " writes two parts, whatever --reducers says: leave it out");
  const bool text = options.input_format.empty() || options.input_format == "text";
  if (text && options.field.empty() && options.then.empty()) return {};
  return error(Code::not_supported, options.label +
                                        " computes on devices: it has no input format, no field, "
                                        "and cannot be in a chain");
}

Result<std::string> describe_device_job(const std::string& name, const Options& options) {
  TRY(check_device_options(options));
  const auto of_job = [&](const Status& why) {
    return error(why.code(), options.label + ": " + why.message());
  };
  if (name != "k-means" && name != "image-histogram")
    return error(Code::not_supported, "this version of AIOS has no job '" + name + "'");
  nlohmann::json all = {{"name", name}};
  if (name == "k-means") {
    const auto given = kmeans_arguments(options);
    if (!given) return of_job(given.error());
    all.update({{"k", given->k},
                {"iterations", given->iterations},
                {"tolerance", given->tolerance},
                {"seed", given->seed}});
  } else if (const auto checked = check_image_arguments(options); !checked) {
    return of_job(checked.error());
  }
  return all.dump();
}

Result<void> check_later_stage(const Stage& stage, std::span<const std::byte> module) {
  if (!device_job_of(module)) return {};
  return error(Code::not_supported, stage.label + " computes on devices: it cannot be in a chain");
}

Result<void> DeviceJob::compute(std::span<const std::byte> module) {
  Inputs inputs(kernel_);
  files_ = TRY(inputs.find(options_.inputs));
  report_.input_files = files_.size();
  report_.input_bytes = total_bytes(files_);
  report_.parts = parts;
  output_ = TRY(OutputFolder::create(options_.output, parts));
  TRY(announcement_.begin(report_.input_bytes));
  TRY(inputs.fetch(files_, output_->temporary_path() + "/objects", preparing(Phase::fetching)));
  tasks_ = TRY(DeviceTasks::open(kernel_, options_.label, [this] { return keep_going(); }));
  return work(module);
}

Result<Report> DeviceJob::commit(std::uint64_t begin_ns) {
  report_.progress.mapped_bytes = report_.input_bytes;
  report_.progress.phase = static_cast<std::uint32_t>(proto::mapreduce::Phase::done);
  if (!keep_going()) return std::unexpected(*announcement_.ended());
  ManifestFacts facts;
  facts.job = options_.label;
  facts.arguments = options_.arguments;
  facts.inputs = options_.inputs;
  facts.input_files = report_.input_files;
  facts.input_bytes = report_.input_bytes;
  facts.records = report_.progress.records;
  facts.distinct_keys = report_.progress.distinct_keys;
  facts.counters = report_.counters;
  facts.skipped = report_.skipped;
  TRY(output_->commit(facts));
  report_.output_bytes = output_->written_bytes();
  report_.seconds_ns = now_ns() - begin_ns;
  return std::move(report_);
}

}  // namespace aios::mapreduce_client
