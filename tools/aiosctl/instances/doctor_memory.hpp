// What the doctor knows of this host's memory: what regions may ask for beyond being there.
#pragma once

#include <string>
#include <vector>

namespace aios::ctl {

struct MemoryFeature {
  const char* name;
  bool given = false;
  std::string gives;        ///< what regions have by it
  const char* without;      ///< what it means that it is missing
  const char* enable;       ///< how a host gets it
  std::string reason = {};  ///< why it is missing; empty where it is not
};
/// Huge pages and NUMA nodes, both tried here and now.
std::vector<MemoryFeature> memory_features();

}  // namespace aios::ctl
