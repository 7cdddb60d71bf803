#include "tools/aiosctl/common/memory.hpp"

#include <utility>

#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

Result<Region> memory_for(Kernel& kernel, const std::string& what, std::uint64_t bytes,
                          std::string_view label) {
  Result<Region> made = Region::create(kernel, bytes, label);
  if (made) return made;
  const Status& why = made.error();
  return error(why.code(), what + " takes " + human_bytes(bytes) + " of memory at once, and " +
                               "there is not so much for it: " + why.message() +
                               "; divide it, or use a machine with more");
}

}  // namespace aios::ctl
