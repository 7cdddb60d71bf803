#include "tools/aiosctl/common/install_paths.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

namespace aios::ctl {

namespace fs = std::filesystem;

Result<std::string> find_libexec() {
  std::vector<fs::path> places;
  if (const char* named = std::getenv("AIOS_LIBEXEC"); named != nullptr && *named != '\0') {
    places.emplace_back(named);
  } else {
    std::error_code failure;
    const fs::path self = fs::read_symlink("/proc/self/exe", failure);
    if (failure) return error(Code::io_error, "cannot read /proc/self/exe: " + failure.message());
    const fs::path folder = self.parent_path();
    places.push_back(folder / "../libexec/aios");
    places.push_back(folder / "../../libexec");
  }
  std::string looked;
  for (const fs::path& place : places) {
    std::error_code failure;
    const fs::path found = fs::canonical(place, failure);
    if (!failure && ::access((found / "aios-kernel").c_str(), X_OK) == 0) return found.string();
    looked += (looked.empty() ? "" : ", ") + place.lexically_normal().string();
  }
  return error(Code::not_found, "no aios-kernel in " + looked +
                                    "; build or install AIOS whole, or name the folder of its "
                                    "programs in AIOS_LIBEXEC");
}

Result<std::string> find_manifest(const std::string& state, const std::string& libexec) {
  const std::string places[] = {state + "/aios.toml", libexec + "/aios.toml"};
  for (const std::string& place : places)
    if (::access(place.c_str(), R_OK) == 0) return place;
  return error(Code::not_found,
               "no manifest at " + places[0] + " or " + places[1] + "; name one with --manifest");
}

}  // namespace aios::ctl
