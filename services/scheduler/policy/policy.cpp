#include "services/scheduler/policy/policy.hpp"

namespace aios::scheduler {

Result<Policy> make_policy(std::string_view name) {
  if (name == "eager") return Policy{make_fifo_order(), make_eager_placement()};
  if (name == "prio") return Policy{make_priority_order(), make_eager_placement()};
  if (name == "edf") return Policy{make_edf_order(), make_eager_placement()};
  if (name == "dmda") return Policy{make_fifo_order(), make_earliest_finish_placement()};
  if (name == "heft") return Policy{make_rank_order(), make_earliest_finish_placement()};
  if (name == "learned") return Policy{make_laxity_order(), make_learned_placement()};
  return error(Code::invalid_argument, "there is no policy '" + std::string(name) +
                                           "'; choose eager, prio, edf, dmda, heft or learned");
}

}  // namespace aios::scheduler
