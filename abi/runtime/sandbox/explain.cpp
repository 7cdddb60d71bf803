#include "abi/runtime/sandbox/sandbox.hpp"

namespace aios::sandbox {

namespace {

constexpr std::string_view user_namespaces =
    "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1 (Debian), "
    "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), user.max_user_namespaces above 0; in "
    "a container a seccomp profile that allows clone with them";
constexpr std::string_view always = "Linux gives it to everybody; look at the reason";

// In the order of Protection.
constexpr Explanation explanations[] = {
    {"has users, processes, mounts, network, ipc and host name of its own",
     "sees and shares the host's processes and network, as far as nothing else stops it",
     user_namespaces},
    {"sees no file of the host's but what its profile names",
     "sees the host's files with the rights of its user, as far as Landlock does not stop it",
     user_namespaces},
    {"gains no rights from any program", "gains the rights of set-uid programs", always},
    {"has no capability", "keeps the capabilities that it was started with", always},
    {"makes no user namespace", "could make a user namespace, and be root in it", user_namespaces},
    {"opens no file but what its profile names, and no TCP port",
     "opens what its root folder shows; nothing else if that is empty",
     "a kernel from 5.13 with CONFIG_SECURITY_LANDLOCK=y, and landlock in lsm= of its command "
     "line"},
    {"signals no process outside and reaches no abstract socket",
     "is stopped from that by its namespaces and its system call filter alone",
     "Linux 6.12 or newer, with Landlock"},
    {"has limits of descriptors, file sizes, threads and locked memory",
     "uses as much of those as its user may", always},
    {"makes no system call that its profile does not need",
     "makes any system call, with all that may be wrong in it",
     "a kernel with CONFIG_SECCOMP_FILTER=y"},
    {"is ended before the kernel of AIOS when memory runs out",
     "may outlive the kernel of AIOS when memory runs out, and then the instance ends",
     "a /proc in which /proc/self/oom_score_adj can be written"},
};
static_assert(std::size(explanations) == proto::sandbox::protection_names.size());

std::string_view name_of(Protection protection) {
  return proto::sandbox::protection_names[static_cast<std::size_t>(protection)];
}

}  // namespace

const Explanation& explain(Protection protection) {
  return explanations[static_cast<std::size_t>(protection)];
}

std::string describe(const Missing& missing) {
  return "without " + std::string(name_of(missing.protection)) + " (" + missing.reason +
         "): this process " + std::string(explain(missing.protection).without);
}

std::string protection_list(std::uint32_t protections) {
  std::string list;
  for (std::size_t i = 0; i < proto::sandbox::protection_names.size(); ++i)
    if ((protections >> i & 1) != 0)
      list.append(list.empty() ? "" : ",").append(proto::sandbox::protection_names[i]);
  return list;
}

Result<std::uint32_t> parse_protections(std::string_view names) {
  std::uint32_t protections = 0;
  while (!names.empty()) {
    const std::string_view name = names.substr(0, names.find(','));
    const auto known = proto::sandbox::protection_of(name);
    if (!known)
      return error(Code::invalid_argument,
                   "no protection is named \"" + std::string(name) +
                       "\"; there are: " + protection_list(proto::sandbox::all_protections));
    protections |= proto::sandbox::bit(*known);
    names.remove_prefix(std::min(names.size(), name.size() + 1));
  }
  return protections;
}

}  // namespace aios::sandbox
