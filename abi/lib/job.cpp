// MapReduce jobs.
#include "abi/include/aios/job.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "abi/lib/failure.hpp"
#include "abi/lib/mapreduce/client.hpp"
#include "abi/lib/mapreduce/format.hpp"
#include "abi/lib/objects.hpp"

using namespace aios;
using namespace aios::lib;
namespace wire = proto::mapreduce;

static_assert(AIOS_MAX_COUNTERS == wire::max_counters);

namespace {

Result<std::vector<std::string>> strings(const char* const* all, std::size_t count) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < count; ++i) {
    if (all == nullptr || all[i] == nullptr)
      return error(Code::invalid_argument, "aios_mapreduce_run: an argument or input is NULL");
    out.emplace_back(all[i]);
  }
  return out;
}

/// Lent files count against this limit, and so do the program's own.
std::uint64_t open_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  return std::min<std::uint64_t>(limit.rlim_cur, 1u << 20);
}

Result<std::vector<mapreduce_client::Stage>> stages(const aios_mapreduce_stage* stage) {
  std::vector<mapreduce_client::Stage> all;
  for (; stage != nullptr; stage = stage->then) {
    if (stage->module_path == nullptr)
      return error(Code::invalid_argument, "aios_mapreduce_run: a stage has no module");
    if (all.size() + 1 == AIOS_MAX_STAGES)
      return error(Code::quota, "aios_mapreduce_run: a chain has at most " +
                                    std::to_string(AIOS_MAX_STAGES) + " stages");
    auto arguments = TRY(strings(stage->arguments, stage->argument_count));
    all.push_back(
        {stage->label != nullptr ? stage->label : "job", stage->module_path, std::move(arguments)});
  }
  return all;
}

Result<mapreduce_client::Options> convert(const aios_mapreduce_options& given) {
  if (given.module_path == nullptr || given.output == nullptr || given.input_count == 0)
    return error(Code::invalid_argument, "a job has a module, inputs and an output folder");
  mapreduce_client::Options options;
  options.label = given.label != nullptr ? given.label : "job";
  options.module_path = given.module_path;
  options.arguments = TRY(strings(given.arguments, given.argument_count));
  options.inputs = TRY(strings(given.inputs, given.input_count));
  options.output = given.output;
  options.reducers = std::max(given.reducers, 1u);
  options.threads = given.threads;
  options.memory_bytes = given.memory_bytes;
  options.task_limit_ns = given.task_limit_ns;
  options.max_bad_records = given.max_bad_records;
  options.open_files = open_files();
  if (given.input_format != nullptr) options.input_format = given.input_format;
  if (given.field != nullptr) options.field = given.field;
  options.then = TRY(stages(given.then));
  return options;
}

aios_mapreduce_progress convert(const wire::Progress& p, std::uint64_t input_bytes) {
  return {input_bytes,     p.mapped_bytes,  p.merge_bytes,    p.merged_bytes,
          p.records,       p.distinct_keys, p.tasks,          p.attempts,
          p.spilled_bytes, p.phase,         p.skipped_records};
}

void convert(const mapreduce_client::Report& report, aios_mapreduce_result& out) {
  out = {};
  out.progress = convert(report.progress, report.input_bytes);
  out.input_files = report.input_files;
  out.output_bytes = report.output_bytes;
  out.elapsed_ns = report.seconds_ns;
  for (const auto& [name, value] : report.counters) {
    if (out.counter_count == AIOS_MAX_COUNTERS) break;
    aios_mapreduce_counter& counter = out.counters[out.counter_count++];
    name.copy(counter.name, sizeof counter.name - 1);
    counter.value = value;
  }
}

Result<mapreduce_client::Report> run(const Core& core, mapreduce_client::Options options,
                                     aios_mapreduce_callback callback, void* context) {
  static std::atomic<std::uint64_t> number = 0;
  // A job of its own: it shares contexts with nothing else, and everything ends with this call. Of
  // a program in a job it is that job's work, and counts in its quota. Other programs may have the
  // same pid, in namespaces of theirs; the kernel's number is nobody else's.
  AttachOptions own;
  own.job_name = core.job_name();
  if (own.job_name.empty())
    own.job_name =
        "mr-" + std::to_string(core.kernel().process_id()) + "-" + std::to_string(++number);
  const auto kernel = TRY(Kernel::attach(core.socket_path(), own));
  const auto port = kernel->startup(wire::Protocol::name);
  if (!port || port->type != ObjectType::port)
    return error(Code::not_found, "this instance has no MapReduce service");
  if (options.threads == 0) options.threads = TRY(mapreduce_client::device_threads(*kernel));
  return mapreduce_client::run(*kernel, port->handle, options,
                               [&](const wire::Progress& progress, std::uint64_t input_bytes) {
                                 const auto seen = convert(progress, input_bytes);
                                 return callback == nullptr || callback(context, &seen) == 0;
                               });
}

}  // namespace

aios_code aios_mapreduce_run(aios_instance* instance, const aios_mapreduce_options* options,
                             aios_mapreduce_callback callback, void* context,
                             aios_mapreduce_result* result) {
  if (instance == nullptr || options == nullptr) return null_argument("aios_mapreduce_run");
  return guarded([&]() -> Result<void> {
    TRY(instance->core->check_process());
    const auto report = TRY(run(*instance->core, TRY(convert(*options)), callback, context));
    if (result != nullptr) convert(report, *result);
    return {};
  });
}

aios_code aios_mapreduce_pack_format(const char* input_format, const char* field, void* packed,
                                     std::size_t capacity, std::size_t* size) {
  if (packed == nullptr || size == nullptr) return null_argument("aios_mapreduce_pack_format");
  return guarded([&]() -> Result<void> {
    const mapreduce_client::InputFormat format = TRY(mapreduce_client::parse_input_format(
        input_format != nullptr ? input_format : "", field != nullptr ? field : ""));
    if (capacity < sizeof format)
      return error(Code::too_large, "aios_mapreduce_pack_format: a packed format has " +
                                        std::to_string(sizeof format) + " bytes");
    std::memcpy(packed, &format, sizeof format);
    *size = sizeof format;
    return {};
  });
}

aios_code aios_mapreduce_align(const char* input_format, int fd, std::uint64_t* offsets,
                               std::size_t count) {
  if (offsets == nullptr && count != 0) return null_argument("aios_mapreduce_align");
  return guarded([&]() -> Result<void> {
    const mapreduce_client::InputFormat format =
        TRY(mapreduce_client::parse_input_format(input_format != nullptr ? input_format : "", ""));
    // What is given through a pointer is unchanged after an error.
    std::vector<std::uint64_t> moved(offsets, offsets + count);
    TRY(mapreduce_client::align_offsets(format, fd, moved));
    std::copy(moved.begin(), moved.end(), offsets);
    return {};
  });
}
