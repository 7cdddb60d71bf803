// StarPU's performance models (version 45): text files, one for each codelet and machine, with a
// table of sizes for each device that it was measured on.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "services/scheduler/simulator/platform.hpp"

namespace aios::scheduler::sim {
namespace {

struct Source {
  const char* type;   ///< what the generators call it
  const char* model;  ///< in which it was measured
  double tiles;       ///< how many it works on, which is the size that the model knows
};

constexpr Source sources[] = {
    {"potrf", "chol_model_potrf", 1},
    {"trsm", "chol_model_trsm", 2},
    {"syrk", "chol_model_syrk", 2},
    {"gemm", "chol_model_gemm", 3},
    {"getrf", "starpu_slu_lu_model_getrf", 1},
    {"trsm_ll", "starpu_slu_lu_model_trsm_ll", 2},
    {"trsm_ru", "starpu_slu_lu_model_trsm_ru", 2},
};

constexpr double measured_tile_bytes = 960.0 * 960 * 4;

/// Lines that are not comments, nor empty.
std::vector<std::string> lines_of(std::istream& file) {
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find_first_not_of(" \t");
    if (first != std::string::npos && line[first] != '#') lines.push_back(line);
  }
  return lines;
}

/// A table's row: hash, size, flops, mean (us), deviation, sum, sum of squares, samples.
bool read_row(const std::string& line, double& bytes, double& mean_us, double& samples) {
  std::istringstream words(line);
  std::string hash;
  double flops, deviation, sum, squares;
  return static_cast<bool>(words >> hash >> bytes >> flops >> mean_us >> deviation >> sum >>
                           squares >> samples) &&
         hash.size() == 8;
}

/// By kind, for so many tiles of 960; from the device with the most samples.
std::map<std::string, double> times_in(std::istream& file, double tiles) {
  std::map<std::string, double> seconds;
  std::map<std::string, double> best_samples;
  const std::vector<std::string> lines = lines_of(file);
  std::string kind;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    // A device is announced by four lines of a number each: how many, its type, its id, its cores.
    double bytes, mean_us, samples;
    if (read_row(lines[i], bytes, mean_us, samples)) {
      if (kind.empty() || std::abs(bytes - tiles * measured_tile_bytes) > 0.01 * bytes) continue;
      if (samples <= best_samples[kind]) continue;
      best_samples[kind] = samples;
      seconds[kind] = mean_us * 1e-6;
    } else if (i + 3 < lines.size() && lines[i].size() == 1 && lines[i] == "1" &&
               lines[i + 1].size() == 1 && lines[i + 2].size() <= 2 && lines[i + 3] == "1") {
      kind = lines[i + 1] == "0" ? "cpu" : lines[i + 1] == "1" ? "gpu" : "";
      i += 3;
    }
  }
  return seconds;
}

/// The matrix' entry from the host to the first device.
double host_to_device(const std::filesystem::path& path) {
  std::ifstream file(path);
  const std::vector<std::string> lines = lines_of(file);
  double from_host = 0, to_first = 0;
  if (lines.empty()) return 0;
  std::istringstream words(lines.front());
  words >> from_host >> to_first;
  return words ? to_first : 0;
}

}  // namespace

Result<void> read_starpu_models(const std::string& folder_and_machine, Platform& platform) {
  const std::size_t slash = folder_and_machine.find_last_of('/');
  if (slash == std::string::npos || slash + 1 == folder_and_machine.size())
    return error(Code::invalid_argument, "models '" + folder_and_machine +
                                             "': write models:FOLDER/MACHINE, such as "
                                             "models:perfmodels/idgraf");
  const std::filesystem::path folder = folder_and_machine.substr(0, slash);
  const std::string machine = folder_and_machine.substr(slash + 1);
  for (const Source& source : sources) {
    std::ifstream file(folder / "codelets/45" / (std::string(source.model) + "." + machine));
    if (!file) continue;
    const auto times = times_in(file, source.tiles);
    if (!times.empty()) platform.measured[source.type] = times;
  }
  if (platform.measured.empty())
    return error(Code::not_found, "there are no performance models of machine '" + machine +
                                      "' in " + (folder / "codelets/45").string() +
                                      "; name a folder that has chol_model_gemm." + machine);
  const double megabytes_per_s = host_to_device(folder / "bus" / (machine + ".bandwidth"));
  const double latency_us = host_to_device(folder / "bus" / (machine + ".latency"));
  if (megabytes_per_s > 0) platform.bus = {latency_us * 1e3, 1e3 / megabytes_per_s};
  return {};
}

}  // namespace aios::scheduler::sim
