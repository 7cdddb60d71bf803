#include "drivers/device/file_split.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "abi/proto/device.hpp"

namespace aios::device {
namespace {

using proto::context::FilePiece;
using proto::context::FileSplitHeader;
using proto::kernel::max_lent_files;

constexpr std::size_t max_description_bytes = 4096;

std::unexpected<Status> bad_split(const std::string& what) {
  return error(Code::invalid_argument, "the lent files cannot be used: " + what);
}

std::vector<Fd> take_descriptors(msghdr& message) {
  std::vector<Fd> fds;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

/// Anything but a regular file could block its reader, or is no data at all.
Result<> check_descriptor(const Fd& fd, std::size_t index) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  struct stat about {};
  if (flags < 0 || ::fstat(fd.get(), &about) != 0)
    return errno_error("cannot look at lent file " + std::to_string(index), errno);
  if (!S_ISREG(about.st_mode) || (flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY)
    return bad_split("number " + std::to_string(index) + " is no regular file open for reading");
  return {};
}

}  // namespace

Result<std::vector<aios_file_piece>> parse_split(std::span<const std::byte> description,
                                                 std::size_t fd_count) {
  FileSplitHeader header{};
  if (description.size() < sizeof header) return bad_split("the description is too short");
  std::memcpy(&header, description.data(), sizeof header);
  if (header.count == 0 || header.count > max_lent_files || header.reserved != 0 ||
      description.size() != sizeof header + header.count * sizeof(FilePiece))
    return bad_split("the description is malformed");
  if (header.count != fd_count)
    return bad_split(std::to_string(header.count) + " files are described and " +
                     std::to_string(fd_count) + " were lent");
  std::vector<aios_file_piece> pieces;
  pieces.reserve(header.count);
  for (std::uint32_t i = 0; i < header.count; ++i) {
    FilePiece piece{};
    std::memcpy(&piece, description.data() + sizeof header + i * sizeof piece, sizeof piece);
    if (piece.length > piece.file_size || piece.offset > piece.file_size - piece.length)
      return bad_split("piece " + std::to_string(i) + " exceeds its file");
    pieces.push_back({.fd = -1,
                      .index = i,
                      .offset = piece.offset,
                      .length = piece.length,
                      .file_size = piece.file_size});
  }
  return pieces;
}

Result<FileSplit> receive_split(const Fd& channel) {
  std::array<std::byte, max_description_bytes> description;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(max_lent_files * sizeof(int))> control;
  iovec part{.iov_base = description.data(), .iov_len = description.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t length =
      ::recvmsg(channel.get(), &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    return error(Code::not_found, "no files were lent on this channel yet");
  if (length < 0) return errno_error("cannot receive lent files", errno);

  FileSplit split;
  split.fds = take_descriptors(message);
  if (length == 0 && split.fds.empty())
    return error(Code::not_found, "no files were lent on this channel, and its owner closed it");
  if ((message.msg_flags & MSG_CTRUNC) != 0)
    return error(Code::quota, "too many lent files are open in this context; lend fewer at a time");
  if ((message.msg_flags & MSG_TRUNC) != 0) return bad_split("the description is too long");
  split.pieces =
      TRY(parse_split({description.data(), static_cast<std::size_t>(length)}, split.fds.size()));
  for (std::size_t i = 0; i < split.fds.size(); ++i) {
    TRY(check_descriptor(split.fds[i], i));
    split.pieces[i].fd = split.fds[i].get();
  }
  return split;
}

}  // namespace aios::device
