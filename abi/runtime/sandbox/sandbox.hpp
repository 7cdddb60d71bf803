// How a server or context locks itself in, for good: after its libraries are loaded, its files are
// opened and the host is looked at; before it has threads, and before it reports ready. Whoever
// calls this is trusted until then. What a host does not give is left out and named; nothing else
// depends on it. README.md of this folder says what each profile may still do.
#pragma once

#include <string>
#include <vector>

#include "abi/proto/sandbox.hpp"
#include "abi/runtime/status.hpp"

namespace aios::sandbox {

using proto::sandbox::Confined;
using proto::sandbox::Profile;
using proto::sandbox::Protection;

enum class Access {
  read,     ///< files and folders
  execute,  ///< also programs
  write,    ///< also made, changed and removed
  device,   ///< a character device, or a folder of them: read, written, and asked by ioctl
};
struct Folder {
  std::string path;  ///< a file or a link is possible too
  Access access;
};

struct Plan {
  Profile profile = Profile::server;
  /// storage: read and written; supervisor: read. An absolute path that exists, or empty.
  std::string folder{};
  /// tool, jit: what it may reach besides, by absolute paths.
  std::vector<Folder> folders{};
  /// jit: it opens a GPU, and has what GPUs' libraries need even where no node of one is seen.
  bool gpu = false;
  /// A bit for each protection that is not to be tried. Only the escape tests set it, to show what
  /// each one stops.
  std::uint32_t leave_out = 0;
};

struct Missing {
  Protection protection;
  std::string reason;
};

struct Report {
  Confined confined;
  std::vector<Missing> missing;  ///< in the order of Protection
  /// context, jit, tool: a folder of the process's own, in memory; empty when there is none.
  std::string private_folder;
  /// Why GPUs' libraries may not start where they are to; else empty.
  std::string hindrance;
};

/// internal: the process was left half way, and must end.
Result<Report> lock_in(const Plan& plan);

/// "without landlock: files are ... (reason)": what it means that a protection is missing.
std::string describe(const Missing& missing);

/// What a protection gives, and how a host gets it; for people.
struct Explanation {
  std::string_view gives;    ///< "it sees no file of the host's"
  std::string_view without;  ///< "it sees the host's files, with the rights of its user"
  std::string_view enable;   ///< "allow user namespaces: sysctl ..."
};
const Explanation& explain(Protection protection);

/// A bit for each name of a list such as "landlock,limits". invalid_argument, naming the one that
/// is unknown and all that there are.
Result<std::uint32_t> parse_protections(std::string_view names);
/// "landlock,limits"
std::string protection_list(std::uint32_t protections);

}  // namespace aios::sandbox
