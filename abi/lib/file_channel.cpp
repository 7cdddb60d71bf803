#include "abi/lib/file_channel.hpp"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "abi/proto/device.hpp"

namespace aios {

namespace {

using proto::kernel::max_lent_files;

Result<void> send_files(const Fd& channel, std::span<const LentPiece> pieces,
                        std::span<const std::byte> description) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(max_lent_files * sizeof(int))> control{};
  iovec part{const_cast<std::byte*>(description.data()), description.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(pieces.size() * sizeof(int));
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(pieces.size() * sizeof(int));
  for (std::size_t i = 0; i < pieces.size(); ++i)
    std::memcpy(CMSG_DATA(header) + i * sizeof(int), &pieces[i].fd, sizeof(int));
  ssize_t sent;
  do {
    sent = ::sendmsg(channel.get(), &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno == ETOOMANYREFS)
    return error(Code::quota,
                 "too many files are lent at once; raise the limit of open files "
                 "(ulimit -n) or use fewer --threads");
  if (sent < 0) return errno_error("lend input files", errno);
  return {};
}

}  // namespace

Result<Handle> lend_files(Kernel& kernel, std::span<const LentPiece> pieces) {
  using proto::context::FilePiece;
  using proto::context::FileSplitHeader;
  if (pieces.empty() || pieces.size() > max_lent_files)
    return error(Code::invalid_argument,
                 "1 to " + std::to_string(max_lent_files) + " files are lent at once");
  std::vector<std::byte> description(sizeof(FileSplitHeader) + pieces.size() * sizeof(FilePiece));
  const FileSplitHeader header{static_cast<std::uint32_t>(pieces.size()), 0};
  std::memcpy(description.data(), &header, sizeof header);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const FilePiece piece{pieces[i].offset, pieces[i].length, pieces[i].file_size};
    std::memcpy(description.data() + sizeof header + i * sizeof piece, &piece, sizeof piece);
  }
  auto created = TRY(kernel.call<proto::kernel::FileCreate>({}));
  if (created.fds.size() != 1) {
    kernel.close(created.reply.file);
    return error(Code::quota, "this process has no descriptor left to lend files");
  }
  const Result<void> sent = send_files(created.fds.front(), pieces, description);
  if (!sent) {
    kernel.close(created.reply.file);
    return std::unexpected(sent.error());
  }
  return created.reply.file;
}

}  // namespace aios
