// MapReduce jobs for C++20; a part of aios.hpp, which includes it.
#pragma once

#include <aios/aios.hpp>

namespace aios {
inline namespace v0 {

inline aios_mapreduce_result Instance::run_job(const JobOptions& options,
                                               const OnProgress& on_progress) {
  const auto pointers = [](const std::vector<std::string>& strings) {
    std::vector<const char*> out;
    for (const std::string& string : strings) out.push_back(string.c_str());
    return out;
  };
  const std::vector<const char*> arguments = pointers(options.arguments);
  const std::vector<const char*> inputs = pointers(options.inputs);
  aios_mapreduce_options raw{};
  raw.label = options.label.c_str();
  raw.module_path = options.module_path.c_str();
  raw.arguments = arguments.data();
  raw.argument_count = arguments.size();
  raw.inputs = inputs.data();
  raw.input_count = inputs.size();
  raw.output = options.output.c_str();
  raw.reducers = options.reducers;
  raw.threads = options.threads;
  raw.memory_bytes = options.memory_bytes;
  raw.task_limit_ns = options.task_limit_ns;
  raw.input_format = options.input_format.c_str();
  if (!options.field.empty()) raw.field = options.field.c_str();
  std::vector<std::vector<const char*>> stage_arguments;
  std::vector<aios_mapreduce_stage> stages;
  for (const JobStage& stage : options.then) {
    stage_arguments.push_back(pointers(stage.arguments));
    stages.push_back({stage.label.c_str(), stage.module_path.c_str(), stage_arguments.back().data(),
                      stage.arguments.size(), nullptr});
  }
  for (std::size_t i = 1; i < stages.size(); ++i) stages[i - 1].then = &stages[i];
  raw.then = stages.empty() ? nullptr : stages.data();
  raw.max_bad_records = options.max_bad_records;
  struct Context {
    const OnProgress* on_progress;
    std::exception_ptr thrown;
  } context{&on_progress, {}};
  const auto callback = [](void* raw_context, const aios_mapreduce_progress* progress) noexcept {
    auto& inner = *static_cast<Context*>(raw_context);
    try {
      return !*inner.on_progress || (*inner.on_progress)(*progress) ? 0 : 1;
    } catch (...) {
      inner.thrown = std::current_exception();
      return 1;
    }
  };
  aios_mapreduce_result result{};
  const aios_code code = aios_mapreduce_run(get(), &raw, callback, &context, &result);
  if (context.thrown) std::rethrow_exception(context.thrown);
  check(code);
  return result;
}

}  // namespace v0
}  // namespace aios
