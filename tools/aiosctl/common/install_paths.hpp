// Where the programs of AIOS lie.
#pragma once

#include <string>

#include "abi/runtime/status.hpp"

namespace aios::ctl {

/// The folder with aios-kernel and the servers: $AIOS_LIBEXEC, else `../libexec/aios` beside an
/// installed aiosctl, else `libexec` of the build tree that this aiosctl lies in. not_found, naming
/// the places looked at.
Result<std::string> find_libexec();

/// The manifest that boot uses when none is named: `aios.toml` in the state folder, else the one
/// that comes with AIOS. not_found.
Result<std::string> find_manifest(const std::string& state, const std::string& libexec);

}  // namespace aios::ctl
