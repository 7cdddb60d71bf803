// What a MapReduce job leaves in its output folder when its program is killed, and who may remove
// it.
#pragma once

#include <string>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"

namespace aios::mapreduce_client {

inline constexpr const char* temporary_name = "_temporary";
inline constexpr const char* success_name = "_SUCCESS";
/// In _temporary: says that it is a job's of AIOS, and is locked while its program lives.
inline constexpr const char* owner_name = "_owner";

/// Makes and locks the owner's file, for as long as the descriptor is open. already_exists: another
/// job has begun there meanwhile.
Result<Fd> own_temporary(const Fd& temporary, const std::string& path);

/// Removes _temporary of a program that is gone, and what it had linked from there into the folder,
/// unless its output was complete. Leaves alone whatever else there is. already_exists: its job
/// still runs.
Result<void> remove_leftovers(const Fd& folder, const std::string& path);

}  // namespace aios::mapreduce_client
