// The files of control groups, for the two halves of cgroup.hpp.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aios::cgroup {

/// The whole text; empty when it cannot be read.
std::string read_file(const std::string& path);
/// False with errno.
bool write_file(const std::string& path, const std::string& text);
/// The decimal number that `text` begins with, or 0.
std::uint64_t number_in(std::string_view text);
/// The number after `key` and a blank, at the beginning of a line; 0 without one.
std::uint64_t value_of(std::string_view text, std::string_view key);
/// In the group itself.
std::vector<pid_t> processes_in(const std::string& folder);
/// Version 2: gives the groups below this one all of its controllers that we use.
void enable_all(const std::string& folder);

}  // namespace aios::cgroup
