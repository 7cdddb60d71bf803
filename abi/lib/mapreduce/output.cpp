#include "abi/lib/mapreduce/output.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

// The hash's state as a member, not behind a pointer.
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "abi/lib/mapreduce/leftovers.hpp"

namespace aios::mapreduce_client {

namespace {

constexpr const char* manifest_name = "manifest.json";

Result<Fd> open_folder(int at, const std::string& path) {
  Fd fd(::openat(at, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return errno_error(path, errno);
  return fd;
}

/// True when the folder holds nothing.
Result<bool> is_empty(const Fd& folder, const std::string& path) {
  Fd copy = TRY(open_folder(folder.get(), "."));
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(copy.get()), ::closedir);
  if (entries == nullptr) return errno_error(path, errno);
  (void)copy.release();
  errno = 0;
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") return false;
  }
  if (errno != 0) return errno_error(path, errno);
  return true;
}

Result<void> write_all(const Fd& fd, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno_error(path, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> flush(const Fd& fd, const std::string& path) {
  if (::fsync(fd.get()) != 0) return errno_error(path, errno);
  return {};
}

std::string hex(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace

struct OutputFolder::Hasher {
  Hasher() { XXH3_64bits_reset(&state); }
  XXH3_state_t state;
};

Result<std::unique_ptr<OutputFolder>> OutputFolder::create(const std::string& path,
                                                           std::uint32_t parts) {
  std::unique_ptr<OutputFolder> folder(new OutputFolder(path));
  TRY(folder->begin(parts));
  return folder;
}

Result<void> OutputFolder::begin(std::uint32_t parts) {
  made_folder_ = ::mkdir(path_.c_str(), 0777) == 0;
  if (!made_folder_ && errno != EEXIST) return errno_error(path_, errno);
  folder_ = TRY(open_folder(AT_FDCWD, path_));
  TRY(remove_leftovers(folder_, path_));
  if (!TRY(is_empty(folder_, path_)))
    return error(Code::already_exists,
                 path_ + ": the output folder is not empty; name another, or empty it first");
  if (::mkdirat(folder_.get(), temporary_name, 0777) != 0)
    return errno_error(path_ + "/" + temporary_name, errno);
  temporary_ = TRY(open_folder(folder_.get(), temporary_name));
  owner_ = TRY(own_temporary(temporary_, path_));
  for (std::uint32_t i = 0; i < parts; ++i) {
    char name[32];
    std::snprintf(name, sizeof name, "part-%05u", i);
    TRY(make_part(name));
  }
  return {};
}

Result<void> OutputFolder::make_part(const std::string& name) {
  Part part;
  part.name = name;
  part.fd =
      Fd(::openat(temporary_.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!part.fd.valid()) return errno_error(path_ + "/" + temporary_name + "/" + name, errno);
  part.hasher = std::make_shared<Hasher>();
  parts_.push_back(std::move(part));
  return {};
}

Result<void> OutputFolder::append(std::uint32_t part_number, std::span<const std::byte> bytes) {
  Part& part = parts_[part_number];
  TRY(write_all(part.fd, bytes, path_ + "/" + part.name));
  // The disk begins now, so that little is left for the fsync of the commit.
  ::sync_file_range(part.fd.get(), static_cast<off_t>(part.bytes), static_cast<off_t>(bytes.size()),
                    SYNC_FILE_RANGE_WRITE);
  part.bytes += bytes.size();
  XXH3_64bits_update(&part.hasher->state, bytes.data(), bytes.size());
  return {};
}

Result<void> OutputFolder::add(const std::string& name, std::span<const std::byte> bytes) {
  TRY(make_part(name));
  TRY(append(static_cast<std::uint32_t>(parts_.size() - 1), bytes));
  parts_.back().fd.reset();  // there may be more parts than a process may have files open
  return {};
}

Result<void> OutputFolder::flush_part(const Part& part) const {
  if (part.fd.valid()) return flush(part.fd, path_ + "/" + part.name);
  const Fd again(::openat(temporary_.get(), part.name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!again.valid()) return errno_error(path_ + "/" + part.name, errno);
  return flush(again, path_ + "/" + part.name);
}

Result<void> OutputFolder::clear() {
  for (Part& part : parts_) {
    if (::ftruncate(part.fd.get(), 0) != 0 || ::lseek(part.fd.get(), 0, SEEK_SET) != 0)
      return errno_error(path_ + "/" + part.name, errno);
    part.bytes = 0;
    part.hasher = std::make_shared<Hasher>();
  }
  return {};
}

std::string OutputFolder::temporary_path() const {
  return path_ + "/" + temporary_name;
}

std::vector<std::string> OutputFolder::part_paths() const {
  std::vector<std::string> paths;
  for (const Part& part : parts_) paths.push_back(temporary_path() + "/" + part.name);
  return paths;
}

std::uint64_t OutputFolder::written_bytes() const {
  std::uint64_t bytes = 0;
  for (const Part& part : parts_) bytes += part.bytes;
  return bytes;
}

std::vector<OutputFolder::Written> OutputFolder::written() const {
  std::vector<Written> all;
  for (const Part& part : parts_)
    all.push_back({part.name, part.bytes, hex(XXH3_64bits_digest(&part.hasher->state))});
  return all;
}

std::string OutputFolder::manifest(const ManifestFacts& facts) const {
  using nlohmann::ordered_json;
  ordered_json parts = ordered_json::array();
  for (const Written& part : written())
    parts.push_back(ordered_json{{"name", part.name}, {"bytes", part.bytes}, {"xxh3", part.xxh3}});
  ordered_json counters = ordered_json::object();
  for (const auto& [name, value] : facts.counters) counters[name] = value;
  ordered_json skipped = ordered_json::array();
  for (const SkippedRecord& one : facts.skipped)
    skipped.push_back(
        ordered_json{{"file", one.file}, {"offset", one.offset}, {"why", code_name(one.why)}});
  ordered_json document = {
      {"job", facts.job}, {"arguments", facts.arguments}, {"inputs", facts.inputs}};
  if (!facts.input_format.empty()) document["input_format"] = facts.input_format;
  if (!facts.field.empty()) document["field"] = facts.field;
  for (const auto& [job, arguments] : facts.then)
    document["then"].push_back(ordered_json{{"job", job}, {"arguments", arguments}});
  document["input_files"] = facts.input_files;
  document["input_bytes"] = facts.input_bytes;
  document["records"] = facts.records;
  document["distinct_keys"] = facts.distinct_keys;
  document["counters"] = counters;
  document["skipped_records"] = skipped;
  document["parts"] = parts;
  return document.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

Result<void> OutputFolder::write_file(const std::string& name, const std::string& text) {
  const Fd fd(
      ::openat(temporary_.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd.valid()) return errno_error(path_ + "/" + temporary_name + "/" + name, errno);
  TRY(write_all(fd, std::as_bytes(std::span(text)), path_ + "/" + name));
  return flush(fd, path_ + "/" + name);
}

/// Links a finished file from _temporary into the folder; something there already is left alone.
/// While it has both names it can be told whose it is. Where there are no links it is moved.
Result<void> OutputFolder::publish(const std::string& name) {
  const bool linked = ::linkat(temporary_.get(), name.c_str(), folder_.get(), name.c_str(), 0) == 0;
  if (!linked && errno == EEXIST) return errno_error(path_ + "/" + name, errno);
  if (!linked &&
      ::renameat2(temporary_.get(), name.c_str(), folder_.get(), name.c_str(), RENAME_NOREPLACE) !=
          0 &&
      (errno != EINVAL ||
       ::renameat(temporary_.get(), name.c_str(), folder_.get(), name.c_str()) != 0))
    return errno_error(path_ + "/" + name, errno);
  published_.push_back(name);
  return {};
}

Result<void> OutputFolder::commit(const ManifestFacts& facts) {
  return commit(manifest(facts));
}

Result<void> OutputFolder::commit(const std::string& manifest) {
  for (const Part& part : parts_) TRY(flush_part(part));
  TRY(write_file(manifest_name, manifest));
  TRY(write_file(success_name, ""));
  for (const Part& part : parts_) TRY(publish(part.name));
  TRY(publish(manifest_name));
  TRY(flush(folder_, path_));
  TRY(publish(success_name));
  committed_ = true;
  remove_temporary();
  return flush(folder_, path_);
}

void OutputFolder::remove_temporary() {
  for (const Part& part : parts_) ::unlinkat(temporary_.get(), part.name.c_str(), 0);
  for (const char* name : {manifest_name, success_name, owner_name})
    ::unlinkat(temporary_.get(), name, 0);
  ::unlinkat(folder_.get(), temporary_name, AT_REMOVEDIR);
}

OutputFolder::~OutputFolder() {
  if (committed_) return;
  if (temporary_.valid()) {
    for (const std::string& name : published_) ::unlinkat(folder_.get(), name.c_str(), 0);
    remove_temporary();
  }
  if (made_folder_) ::rmdir(path_.c_str());  // only if nothing else is in it
}

}  // namespace aios::mapreduce_client
