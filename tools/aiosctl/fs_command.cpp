// aiosctl fs: objects of aios-storage by name.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>

#include "abi/lib/storage_client.hpp"
#include "abi/runtime/command_line.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/memory.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

namespace {

using nlohmann::json;
namespace wire = proto::storage;

constexpr std::uint64_t get_buffer_bytes = 8u << 20;
constexpr std::uint64_t put_buffer_bytes = 1u << 20;  ///< to begin with
constexpr std::uint64_t list_buffer_bytes = 1u << 20;
constexpr std::uint64_t min_buffer_bytes = 64u << 10;
constexpr mode_t new_file_mode = 0666;  // less the umask

/// How long a call may take that moves data; others have `call_timeout_ns`.
constexpr std::uint64_t transfer_timeout_ns = 600 * ns_per_s;

/// An attachment with a storage client and memory for objects; what is last ends first.
struct Attached {
  Operator instance;
  StorageClient storage;
  Region memory;

  std::span<std::byte> buffer() const { return memory.bytes(); }
  StorageClient::Part part(std::uint64_t length) const { return {memory, true, 0, length}; }
  /// To twice the size, with what is in it, which is of `what`.
  Result<> grow(const std::string& what) {
    Region larger = TRY(memory_for(instance.kernel(), what, 2 * buffer().size(), "fs-buffer"));
    std::ranges::copy(buffer(), larger.bytes().begin());
    memory = std::move(larger);
    return {};
  }
};

/// `what` the memory is for.
Result<std::unique_ptr<Attached>> attach(const Session& session, std::uint64_t buffer_bytes,
                                         const std::string& what = "an object") {
  Operator instance = TRY(Operator::attach(session));
  StorageClient storage(TRY(instance.client("storage", wire::Protocol::version)));
  Region memory = TRY(
      memory_for(instance.kernel(), what, std::max(buffer_bytes, min_buffer_bytes), "fs-buffer"));
  return std::make_unique<Attached>(
      Attached{std::move(instance), std::move(storage), std::move(memory)});
}

Deadline soon() {
  return Deadline::after(call_timeout_ns);
}

Deadline later() {
  return Deadline::after(transfer_timeout_ns);
}

std::string time_text(std::uint64_t realtime_ns) {
  const auto seconds = static_cast<std::time_t>(realtime_ns / ns_per_s);
  std::tm parts{};
  char text[32];
  if (::localtime_r(&seconds, &parts) == nullptr) return "?";
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts)};
}

json to_json(const wire::ObjectInfo& info) {
  return {{"size_bytes", info.size_bytes},
          {"version", info.version},
          {"created_ns", info.created_ns},
          {"checksum", info.checksum}};
}

// ---- ls, stat -------------------------------------------------------------------------------

Result<int> list_objects(const Session& session, const std::string& prefix) {
  const auto attached = TRY(attach(session, list_buffer_bytes));
  json out = json::array();
  Table table({{"SIZE", Align::right}, {"CREATED"}, {"NAME"}});
  std::string after;
  for (bool more = true; more;) {
    const std::vector<wire::ListEntry> entries =
        TRY(attached->storage.list(prefix, after, attached->part(list_buffer_bytes), more, soon()));
    if (entries.empty()) break;
    for (const wire::ListEntry& entry : entries) {
      after = entry.object.view();
      json one = to_json(entry.info);
      one["name"] = after;
      out.push_back(std::move(one));
      table.add({human_bytes(entry.info.size_bytes), time_text(entry.info.created_ns), after});
    }
  }
  if (session.json)
    print_json(out);
  else if (!table.empty())
    table.print();
  return exit_done;
}

void print_facts(const std::vector<std::pair<std::string, std::string>>& facts) {
  for (const auto& [what, value] : facts) std::printf("%-10s %s\n", what.c_str(), value.c_str());
}

Result<int> show_object(const Session& session, const std::string& name) {
  const auto attached = TRY(attach(session, 0));
  const wire::ObjectInfo info = TRY(attached->storage.stat(name, soon()));
  if (session.json) {
    json out = to_json(info);
    out["name"] = name;
    print_json(out);
    return exit_done;
  }
  char checksum[20];
  std::snprintf(checksum, sizeof checksum, "%016llx",
                static_cast<unsigned long long>(info.checksum));
  print_facts(
      {{"name", printable(name)},
       {"size", human_bytes(info.size_bytes) + " (" + std::to_string(info.size_bytes) + ")"},
       {"created", time_text(info.created_ns)},
       {"version", std::to_string(info.version)},
       {"checksum", checksum}});
  return exit_done;
}

Result<int> show_store(const Session& session) {
  const auto attached = TRY(attach(session, 0));
  const wire::Info::Reply info = TRY(attached->storage.info(soon()));
  const std::string backend(info.backend.view());
  if (session.json) {
    print_json({{"objects", info.objects},
                {"stored_bytes", info.stored_bytes},
                {"free_bytes", info.free_bytes},
                {"puts", info.puts},
                {"flushes", info.flushes},
                {"backend", backend}});
    return exit_done;
  }
  print_facts({{"objects", std::to_string(info.objects)},
               {"stored", human_bytes(info.stored_bytes)},
               {"free", human_bytes(info.free_bytes)},
               {"puts", std::to_string(info.puts) + " in " + std::to_string(info.flushes) +
                            " batches since the server started"},
               {"backend", printable(backend)}});
  return exit_done;
}

// ---- put ------------------------------------------------------------------------------------

/// What names standard input or output in place of a file.
constexpr const char* standard_stream = "-";

/// Exactly `bytes.size()` bytes; source_changed when the file ends before.
Result<> read_whole(const Fd& file, const std::string& path, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = ::read(file.get(), bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("cannot read " + path, errno);
    if (got == 0) return error(Code::source_changed, path + " became shorter while it was read");
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

/// The first `size_bytes` of the buffer become the object.
Result<int> store(const Session& session, Attached& attached, std::uint64_t size_bytes,
                  const std::string& name) {
  const wire::ObjectInfo stored =
      TRY(attached.storage.put(name, attached.part(size_bytes), later()));
  if (session.json) print_json(to_json(stored));
  return exit_done;
}

/// All that is left of a file of which nobody says beforehand how much that is.
Result<int> put_stream(const Session& session, int fd, const std::string& path,
                       const std::string& name) {
  const auto attached = TRY(attach(session, put_buffer_bytes));
  for (std::uint64_t done = 0;;) {
    if (done == attached->buffer().size()) TRY(attached->grow(path));
    const std::span<std::byte> room = attached->buffer().subspan(done);
    const ssize_t got = ::read(fd, room.data(), room.size());
    if (got == 0) return store(session, *attached, done, name);
    if (got < 0 && errno != EINTR) return errno_error("cannot read " + path, errno);
    if (got > 0) done += static_cast<std::uint64_t>(got);
  }
}

Result<int> put_file(const Session& session, const std::string& path, const std::string& name) {
  // A pipe would wait for a writer.
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return errno_error("cannot open " + path, errno);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return errno_error("cannot stat " + path, errno);
  if (!S_ISREG(info.st_mode))
    return error(Code::invalid_argument,
                 path + " is not a regular file; pipe it in: aiosctl fs put - NAME < " + path);
  const auto size_bytes = static_cast<std::uint64_t>(info.st_size);
  // So Linux says of what it makes up as it is read, as in /proc.
  if (size_bytes == 0) return put_stream(session, file.get(), path, name);
  const auto attached = TRY(attach(session, size_bytes, path));
  TRY(read_whole(file, path, attached->buffer().first(size_bytes)));
  return store(session, *attached, size_bytes, name);
}

// ---- get, cat -------------------------------------------------------------------------------

Result<> write_whole(int fd, const std::string& path, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_error("cannot write " + path, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return {};
}

/// Writes one version of the object, whole, to `fd`, which `path` names in messages.
Result<> copy_object(const Session& session, const std::string& name, int fd,
                     const std::string& path) {
  const auto attached = TRY(attach(session, get_buffer_bytes));
  std::uint64_t version = 0;
  for (std::uint64_t offset = 0, size = 1; offset < size;) {
    const wire::Get::Reply got = TRY(
        attached->storage.get(name, offset, version, attached->part(get_buffer_bytes), later()));
    version = got.info.version;
    size = got.info.size_bytes;
    if (got.length == 0 && offset < size)
      return error(Code::protocol_error, "storage returned a part of impossible length");
    TRY(write_whole(fd, path, attached->buffer().first(got.length)));
    offset += got.length;
  }
  return {};
}

Result<int> print_object(const Session& session, const std::string& name) {
  TRY(copy_object(session, name, STDOUT_FILENO, "standard output"));
  return exit_done;
}

/// Into a device or a pipe, which stays what it is.
Result<int> get_into(const Session& session, const std::string& name, const std::string& path) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid()) return errno_error("cannot open " + path, errno);
  TRY(copy_object(session, name, file.get(), path));
  return exit_done;
}

/// The name of a file that has only a part of an object; a signal that ends us removes it.
const char* volatile unfinished = nullptr;

void remove_unfinished(int number) {
  if (unfinished != nullptr) ::unlink(unfinished);
  // By default, as SA_RESETHAND has it, and once this handler has returned.
  ::raise(number);
}

void handle_ends() {
  struct sigaction action {};
  action.sa_handler = remove_unfinished;
  action.sa_flags = SA_RESETHAND;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    ::sigaction(number, nullptr, &before);
    if (before.sa_handler != SIG_IGN) ::sigaction(number, &action, nullptr);
  }
}

/// First to `part`, a name in the same folder that nobody has; not a link's, either.
Result<int> get_beside(const Session& session, const std::string& name, const std::string& path,
                       const std::string& part) {
  unfinished = part.c_str();
  handle_ends();
  const Fd file(::open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, new_file_mode));
  Result<> copied = file.valid() ? copy_object(session, name, file.get(), part)
                                 : errno_error("cannot create " + part, errno);
  if (copied && ::rename(part.c_str(), path.c_str()) != 0)
    copied = errno_error("cannot rename " + part + " to " + path, errno);
  if (!copied && file.valid()) ::unlink(part.c_str());
  unfinished = nullptr;
  if (copied) return exit_done;
  return std::unexpected(copied.error());
}

/// A file appears whole or not at all; where `path` is a link, the file that it leads to.
Result<int> get_file(const Session& session, const std::string& name, std::string path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return error(Code::invalid_argument, path + " is a folder");
    if (!S_ISREG(info.st_mode)) return get_into(session, name, path);
    std::error_code failure;
    path = std::filesystem::canonical(path, failure).string();
    if (failure) return error(Code::io_error, "cannot follow " + path + ": " + failure.message());
  }
  return get_beside(session, name, path, path + "." + std::to_string(::getpid()) + ".part");
}

// ---- rm, mv ---------------------------------------------------------------------------------

Result<int> remove_object(const Session& session, const std::string& name, bool recursive) {
  const auto attached = TRY(attach(session, 0));
  if (!recursive) {
    TRY(attached->storage.remove(name, soon()));
    return exit_done;
  }
  const std::string prefix = name.ends_with('/') ? name : name + "/";
  const std::uint64_t count = TRY(attached->storage.remove_prefix(prefix, later()));
  if (session.json)
    print_json({{"removed", count}});
  else
    std::printf("removed: %llu\n", static_cast<unsigned long long>(count));
  return exit_done;
}

Result<int> rename_object(const Session& session, const std::string& from, const std::string& to) {
  const auto attached = TRY(attach(session, 0));
  TRY(attached->storage.rename(from, to, soon()));
  return exit_done;
}

/// The words of one command line; lives as long as the commands.
struct Words {
  std::string first;
  std::string second;
  bool recursive = false;
};

template <class Body>
void on_chosen(CLI::App* command, Session& session, Body body) {
  command->callback([&session, body] { session.action = [body] { return run_command(body); }; });
}

void add_readers(CLI::App* fs, Session& session, const std::shared_ptr<Words>& words) {
  CLI::App* ls = fs->add_subcommand("ls", "Lists the objects whose name begins with PREFIX");
  ls->add_option("PREFIX", words->first);
  ls->add_flag("--json", session.json, "Prints JSON");
  on_chosen(ls, session, [&session, words] { return list_objects(session, words->first); });
  CLI::App* get = fs->add_subcommand("get", "Writes an object to a file");
  get->add_option("NAME", words->first)->required();
  get->add_option("FILE", words->second, "- is standard output, ./- a file of that name")
      ->required()
      ->check(command_line::names_something());
  on_chosen(get, session, [&session, words] {
    return words->second == standard_stream ? print_object(session, words->first)
                                            : get_file(session, words->first, words->second);
  });
  CLI::App* cat = fs->add_subcommand("cat", "Writes an object to standard output");
  cat->add_option("NAME", words->first)->required();
  on_chosen(cat, session, [&session, words] { return print_object(session, words->first); });
  CLI::App* stat = fs->add_subcommand("stat", "Describes an object, or without NAME the store");
  stat->add_option("NAME", words->first);
  stat->add_flag("--json", session.json, "Prints JSON");
  on_chosen(stat, session, [&session, words] {
    return words->first.empty() ? show_store(session) : show_object(session, words->first);
  });
}

void add_writers(CLI::App* fs, Session& session, const std::shared_ptr<Words>& words) {
  CLI::App* put = fs->add_subcommand("put", "Stores a file as an object, replacing it at once");
  put->add_option("FILE", words->first, "- is standard input, ./- a file of that name")
      ->required()
      ->check(command_line::names_something());
  put->add_option("NAME", words->second)->required();
  put->add_flag("--json", session.json, "Prints JSON");
  on_chosen(put, session, [&session, words] {
    return words->first == standard_stream
               ? put_stream(session, STDIN_FILENO, "standard input", words->second)
               : put_file(session, words->first, words->second);
  });
  CLI::App* rm = fs->add_subcommand("rm", "Removes an object");
  rm->add_option("NAME", words->first)->required();
  rm->add_flag("-r,--recursive", words->recursive, "Removes all objects below NAME/ instead");
  rm->add_flag("--json", session.json, "Prints JSON");
  on_chosen(rm, session,
            [&session, words] { return remove_object(session, words->first, words->recursive); });
  CLI::App* mv = fs->add_subcommand("mv", "Renames an object, replacing the one called TO");
  mv->add_option("FROM", words->first)->required();
  mv->add_option("TO", words->second)->required();
  on_chosen(mv, session,
            [&session, words] { return rename_object(session, words->first, words->second); });
}

}  // namespace

void add_fs_commands(CLI::App& app, Session& session) {
  CLI::App* fs = app.add_subcommand("fs", "Objects in AIOS storage");
  fs->require_subcommand(1);
  const auto words = std::make_shared<Words>();
  add_readers(fs, session, words);
  add_writers(fs, session, words);
}

}  // namespace aios::ctl
