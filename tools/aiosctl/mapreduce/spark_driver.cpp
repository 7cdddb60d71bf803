#include "tools/aiosctl/mapreduce/spark_driver.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace aios::ctl {

Status become_spark_driver(const std::vector<std::string>& arguments) {
  const char* chosen = std::getenv("AIOS_PYTHON");
  const std::string python = chosen == nullptr || *chosen == '\0' ? "python3" : chosen;
  std::vector<std::string> command = {python, "-m", "aios_cluster"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<char*> words;
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  ::execvp(words[0], words.data());
  return Status(Code::not_found, "cannot run " + python + ": " + std::strerror(errno) +
                                     "; AIOS_PYTHON names the Python with the packages "
                                     "aios_cluster and pyspark");
}

Status become_spark_driver(const SparkJob& job) {
  std::vector<std::string> command = {"run",
                                      "--master",
                                      job.master,
                                      "--label",
                                      job.label,
                                      "--output",
                                      job.output,
                                      "--reducers",
                                      std::to_string(job.reducers),
                                      "--task-limit-s",
                                      std::to_string(job.task_limit_s)};
  if (job.memory_mb != 0) {
    command.emplace_back("--memory-mb");
    command.push_back(std::to_string(job.memory_mb));
  }
  if (job.max_bad_records != 0) {
    command.emplace_back("--skip-bad-records");
    command.push_back(std::to_string(job.max_bad_records));
  }
  const auto add = [&command](const char* option, const std::string& value) {
    if (!value.empty()) command.push_back(std::string(option) + "=" + value);
  };
  add("--mapper", job.mapper);
  add("--reducer", job.reducer);
  add("--input-format", job.input_format);
  add("--field", job.field);
  add("--device-job", job.device_job);
  for (const std::string& stage : job.then) add("--then", stage);
  for (const std::string& file : job.files) add("--file", file);
  for (const std::string& setting : job.settings) {
    command.emplace_back("--conf");
    command.push_back(setting);
  }
  if (job.json) command.emplace_back("--json");
  command.emplace_back("--input");
  command.insert(command.end(), job.inputs.begin(), job.inputs.end());
  command.emplace_back("--");
  command.push_back(job.module_path);
  command.insert(command.end(), job.arguments.begin(), job.arguments.end());
  return become_spark_driver(command);
}

}  // namespace aios::ctl
