#include "services/scheduler/costs/costs.hpp"

namespace aios::scheduler {

const char* level_name(Level level) {
  switch (level) {
    case Level::none:
      return "none";
    case Level::hint:
      return "hint";
    case Level::regression:
      return "regression";
    case Level::history:
      return "history";
    case Level::boosted:
      return "boosted";
    case Level::exact:
      return "exact";
  }
  return "unknown";
}

}  // namespace aios::scheduler
