#include "services/supervisor/manifest.hpp"

#include <toml++/toml.h>
#include <algorithm>
#include <initializer_list>
#include <limits>

#include "abi/runtime/sandbox/sandbox.hpp"

namespace aios::supervisor {

namespace {

using proto::kernel::Profile;

constexpr std::uint64_t ns_per_ms = 1'000'000;
constexpr std::uint64_t max_interval_ms = 3'600'000;
constexpr std::uint32_t max_missed_heartbeats = 100;
/// The times of so many ends are remembered for each server.
constexpr std::uint64_t max_restart_count = 100'000;
constexpr std::uint64_t max_count = std::numeric_limits<std::uint32_t>::max();

std::string quoted(std::string_view text) {
  // What a message repeats of the file is cut and kept to one line.
  std::string out = "'";
  for (const char c : text.substr(0, 64)) out += c >= ' ' && c <= '~' ? c : '?';
  return out + (text.size() > 64 ? "...'" : "'");
}

bool is_word(std::string_view text, std::string_view extra, std::size_t most) {
  const auto allowed = [extra](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || extra.contains(c);
  };
  return !text.empty() && text.size() <= most && std::all_of(text.begin(), text.end(), allowed);
}

/// Reads one table key by key. Every error names file, line and key.
class Table {
 public:
  Table(const toml::table& table, std::string_view path, std::string where)
      : table_(table), path_(path), where_(std::move(where)) {}

  std::unexpected<Status> wrong(const toml::node& node, const std::string& what) const {
    return wrong_at(node.source().begin.line, what);
  }
  std::unexpected<Status> wrong_at(std::uint32_t line, const std::string& what) const {
    return error(Code::invalid_argument,
                 std::string(path_) + ":" + std::to_string(line) + ": " + what);
  }
  std::string name_of(std::string_view key) const {
    return where_.empty() ? std::string(key) : where_ + "." + std::string(key);
  }
  std::uint32_t line() const { return table_.source().begin.line; }

  Result<void> allow(std::initializer_list<std::string_view> keys) const {
    for (const auto& [key, node] : table_) {
      if (std::find(keys.begin(), keys.end(), key.str()) != keys.end()) continue;
      std::string list;
      for (const std::string_view allowed : keys)
        list += (list.empty() ? "" : ", ") + std::string(allowed);
      const std::uint32_t line = key.source().begin.line;
      return wrong_at(line, "unknown key " + quoted(key.str()) +
                                (where_.empty() ? "" : " in [" + where_ + "]") +
                                "; allowed are: " + list);
    }
    return {};
  }

  Result<std::optional<Table>> table(std::string_view key) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return std::optional<Table>();
    if (!node->is_table()) return wrong(*node, name_of(key) + " must be a table");
    return std::optional<Table>(Table(*node->as_table(), path_, name_of(key)));
  }

  Result<std::optional<std::string>> string(std::string_view key) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return std::optional<std::string>();
    if (!node->is_string()) return wrong(*node, name_of(key) + " must be a string");
    return std::optional<std::string>(node->as_string()->get());
  }

  Result<bool> boolean(std::string_view key) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return false;
    if (!node->is_boolean()) return wrong(*node, name_of(key) + " must be true or false");
    return node->as_boolean()->get();
  }

  /// `absent` when the key is not there.
  Result<std::uint64_t> integer(std::string_view key, std::uint64_t least, std::uint64_t most,
                                std::uint64_t absent) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return absent;
    const auto* value = node->as_integer();
    if (value == nullptr || value->get() < 0 || static_cast<std::uint64_t>(value->get()) < least ||
        static_cast<std::uint64_t>(value->get()) > most)
      return wrong(*node, name_of(key) + " must be a whole number from " + std::to_string(least) +
                              " to " + std::to_string(most));
    return static_cast<std::uint64_t>(value->get());
  }

  /// Milliseconds, `least` to an hour, as nanoseconds.
  Result<std::uint64_t> interval(std::string_view key, std::uint64_t least,
                                 std::uint64_t absent_ns) const {
    return TRY(integer(key, least, max_interval_ms, absent_ns / ns_per_ms)) * ns_per_ms;
  }

  Result<std::vector<std::string>> strings(std::string_view key) const {
    const toml::node* node = table_.get(key);
    std::vector<std::string> out;
    if (node == nullptr) return out;
    const toml::array* array = node->as_array();
    if (array == nullptr) return wrong(*node, name_of(key) + " must be a list of strings");
    for (const toml::node& item : *array) {
      if (!item.is_string()) return wrong(item, name_of(key) + " must be a list of strings");
      if (item.as_string()->get().find('\0') != std::string::npos)
        return wrong(item, name_of(key) + " must not hold a zero byte");
      out.push_back(item.as_string()->get());
    }
    return out;
  }

  const toml::table& raw() const { return table_; }
  std::uint32_t line_of(std::string_view key) const {
    const toml::node* node = table_.get(key);
    return node == nullptr ? line() : node->source().begin.line;
  }

 private:
  const toml::table& table_;
  std::string_view path_;
  std::string where_;
};

Result<Profile> read_profile(const Table& table, Profile absent) {
  const std::optional<std::string> text = TRY(table.string("profile"));
  if (!text) return absent;
  if (const auto known = proto::sandbox::profile_of(*text)) return *known;
  std::string names;
  for (const std::string_view name : proto::sandbox::profile_names)
    names.append(names.empty() ? "" : ", ").append(name);
  return table.wrong_at(table.line_of("profile"), table.name_of("profile") + " " + quoted(*text) +
                                                      " must be one of: " + names);
}

/// What the programs of AIOS are made for; others are servers.
Profile usual_profile(std::string_view binary) {
  if (binary == "aios-storage") return Profile::storage;
  if (binary == "aios-cpu") return Profile::driver;
  return Profile::server;
}

Result<std::uint32_t> read_require(const Table& table) {
  std::uint32_t require = 0;
  for (const std::string& name : TRY(table.strings("require"))) {
    const auto known = proto::sandbox::protection_of(name);
    if (!known)
      return table.wrong_at(
          table.line_of("require"),
          table.name_of("require") + ": no protection is named " + quoted(name) +
              "; there are: " + sandbox::protection_list(proto::sandbox::all_protections));
    require |= proto::sandbox::bit(*known);
  }
  return require;
}

Result<std::string> read_binary(const Table& table) {
  const std::optional<std::string> text = TRY(table.string("binary"));
  if (!text) return table.wrong_at(table.line(), table.name_of("binary") + " is missing");
  if (text->empty() || text->size() > 64 || text->find_first_of("/\0", 0, 2) != std::string::npos)
    return table.wrong_at(table.line_of("binary"),
                          table.name_of("binary") + " " + quoted(*text) +
                              " must be the name of a file of the libexec folder, without '/'");
  return *text;
}

Result<std::uint64_t> read_memory(const Table& table) {
  const std::optional<std::string> text = TRY(table.string("memory"));
  if (!text) return 0;
  const auto wrong = [&] {
    return table.wrong_at(table.line_of("memory"), table.name_of("memory") + " " + quoted(*text) +
                                                       " must be like \"512M\": a whole number and"
                                                       " one of K, M, G");
  };
  std::uint64_t value = 0;
  std::size_t at = 0;
  for (; at < text->size() && (*text)[at] >= '0' && (*text)[at] <= '9'; ++at) {
    if (at >= 9) return wrong();
    value = value * 10 + static_cast<std::uint64_t>((*text)[at] - '0');
  }
  if (value == 0 || at + 1 != text->size()) return wrong();
  switch ((*text)[at]) {
    case 'K':
      return value << 10;
    case 'M':
      return value << 20;
    case 'G':
      return value << 30;
    default:
      return wrong();
  }
}

Result<std::uint32_t> read_cpus(const Table& table) {
  const toml::node* node = table.raw().get("cpus");
  if (node == nullptr) return 0;
  const double cores = node->is_number() ? node->value<double>().value_or(0) : 0;
  if (!(cores >= 0.01 && cores <= 4096))
    return table.wrong(*node,
                       table.name_of("cpus") + " must be a number of cores from 0.01 to 4096");
  return static_cast<std::uint32_t>(cores * 1000 + 0.5);
}

Result<proto::kernel::Quota> read_quota(const Table& server) {
  const std::optional<Table> table = TRY(server.table("quota"));
  proto::kernel::Quota quota{};
  if (!table) return quota;
  TRY(table->allow({"memory", "cpus", "processes", "handles", "links"}));
  quota.memory_bytes = TRY(read_memory(*table));
  quota.cpu_millis = TRY(read_cpus(*table));
  quota.processes = static_cast<std::uint32_t>(TRY(table->integer("processes", 1, max_count, 0)));
  quota.handles = static_cast<std::uint32_t>(TRY(table->integer("handles", 1, max_count, 0)));
  quota.links = static_cast<std::uint32_t>(TRY(table->integer("links", 1, max_count, 0)));
  return quota;
}

Result<std::optional<SpawnerSpec>> read_spawner(const Table& server) {
  const std::optional<Table> table = TRY(server.table("spawner"));
  if (!table) return std::optional<SpawnerSpec>();
  TRY(table->allow({"binary", "profile", "label"}));
  SpawnerSpec spawner;
  spawner.binary = TRY(read_binary(*table));
  spawner.profile = TRY(read_profile(*table, Profile::context));
  const std::optional<std::string> label = TRY(table->string("label"));
  spawner.label = label.value_or("spawner:context");
  // The prefix keeps it apart from the labels of ports.
  if (!spawner.label.starts_with("spawner:") || !is_word(spawner.label, ":-_", 31))
    return table->wrong_at(table->line_of("label"),
                           table->name_of("label") + " " + quoted(spawner.label) +
                               " must be like \"spawner:context\", at most 31 characters");
  return std::optional<SpawnerSpec>(std::move(spawner));
}

/// What a `restart` table says, otherwise than `rule`.
Result<RestartRule> read_restart(const Table& parent, RestartRule rule) {
  const std::optional<Table> table = TRY(parent.table("restart"));
  if (!table) return rule;
  TRY(table->allow({"count", "window_ms", "first_delay_ms", "max_delay_ms"}));
  rule.count =
      static_cast<std::uint32_t>(TRY(table->integer("count", 0, max_restart_count, rule.count)));
  rule.window_ns = TRY(table->interval("window_ms", 1, rule.window_ns));
  rule.first_delay_ns = TRY(table->interval("first_delay_ms", 0, rule.first_delay_ns));
  rule.max_delay_ns = TRY(table->interval("max_delay_ms", 0, rule.max_delay_ns));
  return rule;
}

Result<ServerSpec> read_server(const Table& table, std::string_view name, std::uint32_t line,
                               const RestartRule& restart) {
  if (!is_word(name, "-_", max_server_name_bytes))
    return table.wrong_at(line, "server name " + quoted(name) + " must be 1 to " +
                                    std::to_string(max_server_name_bytes) +
                                    " of a-z, 0-9, '-' and '_'");
  if (name == supervisor_name || name == port_label || name == "root")
    return table.wrong_at(line, "server name " + quoted(name) + " is taken by AIOS itself");
  TRY(table.allow({"binary", "profile", "require", "routes", "depends", "arguments", "publish",
                   "spawner", "quota", "restart"}));
  ServerSpec server;
  server.name = name;
  server.line = line;
  server.binary = TRY(read_binary(table));
  server.profile = TRY(read_profile(table, usual_profile(server.binary)));
  server.require = TRY(read_require(table));
  server.routes = TRY(table.strings("routes"));
  server.depends = TRY(table.strings("depends"));
  server.arguments = TRY(table.strings("arguments"));
  if (server.arguments.size() > max_server_arguments)
    return table.wrong_at(table.line_of("arguments"),
                          table.name_of("arguments") + " may have at most " +
                              std::to_string(max_server_arguments) + " entries");
  server.publish = TRY(table.boolean("publish"));
  server.spawner = TRY(read_spawner(table));
  server.quota = TRY(read_quota(table));
  server.restart = TRY(read_restart(table, restart));
  return server;
}

Result<void> read_timing(const Table& root, Timing& timing) {
  const std::optional<Table> table = TRY(root.table("instance"));
  if (!table) return {};
  TRY(table->allow({"heartbeat_ms", "missed_heartbeats", "start_timeout_ms", "stop_timeout_ms",
                    "drain_ms", "restart", "require"}));
  timing.heartbeat_ns = TRY(table->interval("heartbeat_ms", 1, timing.heartbeat_ns));
  timing.start_timeout_ns = TRY(table->interval("start_timeout_ms", 1, timing.start_timeout_ns));
  timing.stop_timeout_ns = TRY(table->interval("stop_timeout_ms", 1, timing.stop_timeout_ns));
  timing.drain_ns = TRY(table->interval("drain_ms", 0, timing.drain_ns));
  timing.restart = TRY(read_restart(*table, timing.restart));
  timing.missed_heartbeats = static_cast<std::uint32_t>(
      TRY(table->integer("missed_heartbeats", 1, max_missed_heartbeats, timing.missed_heartbeats)));
  return {};
}

/// Every name in a list of `server` is a server of the manifest, once, and not the server itself.
Result<void> check_names(const Manifest& manifest, const ServerSpec& server, const Table& table,
                         std::string_view key, const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string& name = names[i];
    const bool known = std::any_of(manifest.servers.begin(), manifest.servers.end(),
                                   [&](const ServerSpec& other) { return other.name == name; }) ||
                       (key == "routes" && name == supervisor_name);
    const std::string at = table.name_of(key) + ": ";
    if (!known) {
      std::string list;
      for (const ServerSpec& other : manifest.servers)
        list += (list.empty() ? "" : ", ") + other.name;
      return table.wrong_at(table.line_of(key),
                            at + "no server is named " + quoted(name) + "; there are: " + list);
    }
    if (name == server.name)
      return table.wrong_at(table.line_of(key), at + "a server cannot name itself");
    if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), name) !=
        names.begin() + static_cast<std::ptrdiff_t>(i))
      return table.wrong_at(table.line_of(key), at + quoted(name) + " is there twice");
  }
  return {};
}

Result<Manifest> read_root(const toml::table& document, std::string_view path) {
  const Table root(document, path, "");
  TRY(root.allow({"instance", "users", "server"}));
  Manifest manifest;
  manifest.path = path;
  TRY(read_timing(root, manifest.timing));
  if (const std::optional<Table> instance = TRY(root.table("instance")))
    manifest.require = TRY(read_require(*instance));
  if (const std::optional<Table> users = TRY(root.table("users"))) {
    TRY(users->allow({"quota"}));
    manifest.user_quota = TRY(read_quota(*users));
  }
  const std::optional<Table> servers = TRY(root.table("server"));
  if (!servers) return root.wrong_at(1, "there is no [server.NAME] section");
  // The library sorts keys; the file's own order is the one to keep.
  std::vector<std::pair<std::uint32_t, std::string>> names;
  for (const auto& [key, node] : servers->raw())
    names.emplace_back(key.source().begin.line, key.str());
  std::sort(names.begin(), names.end());
  if (names.size() > max_servers)
    return root.wrong_at(names[max_servers].first,
                         "there may be at most " + std::to_string(max_servers) + " servers");
  for (const auto& [line, name] : names) {
    const std::optional<Table> table = TRY(servers->table(name));
    manifest.servers.push_back(TRY(read_server(*table, name, line, manifest.timing.restart)));
    manifest.servers.back().require |= manifest.require;
  }
  for (const ServerSpec& server : manifest.servers) {
    const std::optional<Table> table = TRY(servers->table(server.name));
    TRY(check_names(manifest, server, *table, "routes", server.routes));
    TRY(check_names(manifest, server, *table, "depends", server.depends));
  }
  return manifest;
}

}  // namespace

Result<Manifest> parse_manifest(std::string_view text, std::string_view path) {
  if (text.size() > max_manifest_bytes)
    return error(Code::too_large, std::string(path) + ":1: a manifest has at most " +
                                      std::to_string(max_manifest_bytes) + " bytes");
  try {
    return read_root(toml::parse(text, path), path);
  } catch (const toml::parse_error& problem) {
    return error(Code::invalid_argument,
                 std::string(path) + ":" + std::to_string(problem.source().begin.line) +
                     ": not valid TOML: " + std::string(problem.description()));
  }
}

}  // namespace aios::supervisor
