#include "tools/aiosctl/instances/doctor.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <sstream>

namespace aios::ctl {

std::vector<std::string> Diagnosis::lacking(sandbox::Protection protection) const {
  std::vector<std::string> names;
  for (const Patient& patient : patients)
    if (patient.profile != sandbox::Profile::open &&
        (patient.enforced & proto::sandbox::bit(protection)) == 0)
      names.push_back(patient.name);
  return names;
}

std::vector<std::string> Diagnosis::requiring(sandbox::Protection protection) const {
  std::vector<std::string> names;
  for (const Patient& patient : patients)
    if ((patient.require & proto::sandbox::bit(protection)) != 0) names.push_back(patient.name);
  return names;
}

bool Diagnosis::satisfied() const {
  return std::ranges::all_of(
      patients, [](const Patient& patient) { return (patient.require & ~patient.enforced) == 0; });
}

std::vector<HostLibrary> host_libraries() {
  HostLibrary xgboost{"xgboost",
                      "aios-trainer trains trees that predict what new sizes of tasks cost",
                      "new sizes of tasks are predicted by regression alone",
                      "apt-get install libxgboost0",
                      {}};
  void* found = ::dlopen("libxgboost.so.0", RTLD_LAZY | RTLD_LOCAL);
  if (found == nullptr)
    xgboost.reason = ::dlerror();
  else
    ::dlclose(found);
  return {xgboost};
}

Result<std::vector<Patient>> parse_patients(const std::string& text) {
  std::vector<Patient> patients;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name, profile, require;
    words >> name >> profile >> require;
    const auto known = proto::sandbox::profile_of(profile);
    if (!known) return error(Code::protocol_error, "the supervisor names no profile in: " + line);
    const auto protections = TRY(sandbox::parse_protections(require));
    patients.push_back({name, *known, protections});
  }
  return patients;
}

}  // namespace aios::ctl
