// What the doctor knows: which protections each part of an instance has on this host, which it must
// have, and why not.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "abi/runtime/sandbox/sandbox.hpp"
#include "tools/aiosctl/instances/doctor_limits.hpp"
#include "tools/aiosctl/instances/doctor_memory.hpp"

namespace aios::ctl {

/// A server or kind of context of the manifest.
struct Patient {
  std::string name;
  sandbox::Profile profile = sandbox::Profile::server;
  std::uint32_t require = 0;
  std::uint64_t pid = 0;       ///< of a running one; 0: what this host would give it
  std::uint32_t enforced = 0;  ///< a bit for each protection
};

/// What AIOS uses where it is installed, and does without elsewhere.
struct HostLibrary {
  std::string name;
  std::string gives;
  std::string without;
  std::string enable;
  std::string reason;  ///< why it is missing; empty where it is not
};
/// Looks for each, by opening it.
std::vector<HostLibrary> host_libraries();

struct Diagnosis {
  bool running = false;  ///< an instance answered, and its processes were asked
  std::vector<Patient> patients;
  std::map<sandbox::Protection, std::string> reasons;  ///< why this host does not give it
  std::vector<JobLimit> limits;                        ///< of jobs with a quota
  std::vector<HostLibrary> libraries;                  ///< of this host
  std::vector<MemoryFeature> memory;                   ///< of regions

  /// Of those whose profile is not `open`.
  std::vector<std::string> lacking(sandbox::Protection protection) const;
  std::vector<std::string> requiring(sandbox::Protection protection) const;
  /// Nothing that is required is missing.
  bool satisfied() const;
};

/// "NAME PROFILE PROTECTION,PROTECTION" a line, as `aios-supervisor --show-profiles` writes them.
Result<std::vector<Patient>> parse_patients(const std::string& text);

}  // namespace aios::ctl
