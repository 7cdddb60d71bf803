#include "abi/lib/mapreduce/objects.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string_view>
#include <utility>

namespace aios::mapreduce_client {

namespace {

namespace wire = proto::storage;

constexpr std::string_view scheme = "aios:";
constexpr std::uint64_t window_bytes = 8u << 20;
constexpr std::uint64_t call_ns = 10 * ns_per_s;
/// Of one window: storage may be restarted meanwhile.
constexpr std::uint64_t transfer_ns = 60 * ns_per_s;

std::string shown(const std::string& name) {
  return std::string(scheme) + name;
}

/// The error of a call about an object, with its name.
std::unexpected<Status> about(const std::string& name, const Status& why) {
  if (why.code() == Code::not_found)
    return error(Code::not_found, shown(name) + ": storage has no such object");
  return error(why.code(), shown(name) + ": " + why.message());
}

std::unexpected<Status> changed(const std::string& name, const Status& why) {
  if (why.code() == Code::not_found)
    return error(Code::source_changed, shown(name) + ": was removed since the job began");
  if (why.code() == Code::source_changed)
    return error(Code::source_changed, shown(name) + ": was replaced since the job began");
  return about(name, why);
}

Result<void> write_all(const Fd& fd, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno_error("cannot copy an object to " + path, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace

Result<std::vector<InputFile>> Inputs::find(std::span<const std::string> names) {
  std::vector<InputFile> files;
  for (const std::string& name : names) {
    if (name.starts_with(scheme)) {
      TRY(connect());
      TRY(find_object(name.substr(scheme.size()), files));
      continue;
    }
    std::vector<InputFile> walked = TRY(walk_inputs(std::span(&name, 1)));
    files.insert(files.end(), std::make_move_iterator(walked.begin()),
                 std::make_move_iterator(walked.end()));
    if (files.size() > max_input_files)
      return error(Code::quota, "more than " + std::to_string(max_input_files) + " input files");
  }
  return files;
}

Result<void> Inputs::connect() {
  if (storage_ != nullptr) return {};
  const auto port = kernel_.startup(wire::Protocol::name);
  if (!port || port->type != ObjectType::port)
    return error(Code::not_found, "this instance has no storage to read objects from");
  storage_ = std::make_unique<StorageClient>(std::make_unique<Client>(
      kernel_, nullptr, port->handle, wire::Protocol::version, wire::Protocol::name));
  memory_ = TRY(Region::create(kernel_, window_bytes, "mapreduce-objects"));
  return {};
}

Result<void> Inputs::find_object(const std::string& name, std::vector<InputFile>& files) {
  if (name.ends_with('/')) return find_below(name, files);
  const auto info = storage_->stat(name, Deadline::after(call_ns));
  if (!info) return about(name, info.error());
  add(name, *info, files);
  return {};
}

Result<void> Inputs::find_below(const std::string& prefix, std::vector<InputFile>& files) {
  const std::size_t before = files.size();
  std::string after;
  for (bool more = true; more;) {
    const auto entries = storage_->list(prefix, after, {memory_, true, 0, window_bytes}, more,
                                        Deadline::after(call_ns));
    if (!entries) return about(prefix, entries.error());
    if (entries->empty()) break;
    for (const wire::ListEntry& entry : *entries) {
      after = entry.object.view();
      add(after, entry.info, files);
    }
    if (files.size() > max_input_files)
      return error(Code::quota, "more than " + std::to_string(max_input_files) + " input files");
  }
  if (files.size() == before)
    return error(Code::not_found, shown(prefix) + ": storage has no object below");
  return {};
}

void Inputs::add(const std::string& name, const StorageClient::ObjectInfo& info,
                 std::vector<InputFile>& files) {
  objects_.push_back({files.size(), name, info.version});
  files.push_back({{}, info.size_bytes, 0, 0, shown(name)});
}

Result<void> Inputs::fetch(std::vector<InputFile>& files, const std::string& folder,
                           const OnBytes& on_bytes) {
  std::uint64_t before = 0, all = 0;
  for (const Object& object : objects_) all += files[object.file].size_bytes;
  for (const Object& object : objects_) {
    InputFile& file = files[object.file];
    if (file.size_bytes == 0) continue;
    if (folder_.empty()) {
      if (::mkdir(folder.c_str(), 0700) != 0) return errno_error(folder, errno);
      folder_ = folder;
    }
    TRY(copy(object, file, folder + "/" + std::to_string(object.file),
             [&](std::uint64_t copied) { return on_bytes(before + copied, all); }));
    before += file.size_bytes;
  }
  storage_.reset();
  memory_.reset();
  return {};
}

Result<void> Inputs::copy(const Object& object, InputFile& file, const std::string& target,
                          const std::function<bool(std::uint64_t)>& on_copied) {
  const Fd to(::open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!to.valid()) return errno_error(target, errno);
  for (std::uint64_t at = 0; at < file.size_bytes;) {
    if (!on_copied(at)) return error(Code::cancelled, "the job was cancelled");
    const auto got = storage_->get(object.name, at, object.version,
                                   {memory_, true, 0, std::min(window_bytes, file.size_bytes - at)},
                                   Deadline::after(transfer_ns));
    if (!got) return changed(object.name, got.error());
    if (got->length == 0)
      return error(Code::protocol_error, shown(object.name) + ": storage gave none of its bytes");
    TRY(write_all(to, std::as_bytes(memory_.bytes()).first(got->length), target));
    at += got->length;
  }
  struct stat info {};
  if (::fstat(to.get(), &info) != 0) return errno_error(target, errno);
  file.path = target;
  file.device = info.st_dev;
  file.inode = info.st_ino;
  return {};
}

Inputs::~Inputs() {
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

}  // namespace aios::mapreduce_client
