#include "drivers/device/file_split.hpp"

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "abi/proto/device.hpp"
#include "abi/runtime/socket.hpp"

using namespace aios;
using namespace aios::device;
using proto::context::FilePiece;
using proto::context::FileSplitHeader;

namespace {

std::vector<std::byte> describe(std::uint32_t count, const std::vector<FilePiece>& pieces) {
  std::vector<std::byte> bytes(sizeof(FileSplitHeader) + pieces.size() * sizeof(FilePiece));
  const FileSplitHeader header{.count = count, .reserved = 0};
  std::memcpy(bytes.data(), &header, sizeof header);
  if (!pieces.empty())
    std::memcpy(bytes.data() + sizeof header, pieces.data(), pieces.size() * sizeof(FilePiece));
  return bytes;
}

struct Channel {
  Fd lender, reader;
  Channel() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    lender = Fd(ends[0]);
    reader = Fd(ends[1]);
  }
  void lend(const std::vector<std::byte>& description, const std::vector<int>& fds) const {
    REQUIRE(send_packet(lender.get(), description, fds, 0));
  }
};

Fd make_file(const char* text) {
  const Fd writable(::memfd_create("lent", MFD_CLOEXEC));
  REQUIRE(::write(writable.get(), text, std::strlen(text)) ==
          static_cast<ssize_t>(std::strlen(text)));
  return Fd(
      ::open(("/proc/self/fd/" + std::to_string(writable.get())).c_str(), O_RDONLY | O_CLOEXEC));
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

const FilePiece whole{.offset = 0, .length = 5, .file_size = 5};

}  // namespace

TEST_CASE("Lent files are found again by every reader") {
  const Channel channel;
  const Fd first = make_file("hello"), second = make_file("world");
  channel.lend(describe(2, {whole, {.offset = 1, .length = 4, .file_size = 5}}),
               {first.get(), second.get()});
  for (int attempt = 0; attempt < 3; ++attempt) {
    const auto split = receive_split(channel.reader);
    REQUIRE(split);
    REQUIRE(split->pieces.size() == 2);
    CHECK(split->pieces[1].index == 1);
    CHECK(split->pieces[1].offset == 1);
    CHECK((::fcntl(split->pieces[1].fd, F_GETFD) & FD_CLOEXEC) != 0);
    char text[4];
    CHECK(::pread(split->pieces[1].fd, text, 4, 1) == 4);
    CHECK(std::memcmp(text, "orld", 4) == 0);
  }
}

TEST_CASE("A channel on which nothing was lent says not_found") {
  Channel channel;
  CHECK(receive_split(channel.reader).error().code() == Code::not_found);
  channel.lender.reset();
  CHECK(receive_split(channel.reader).error().code() == Code::not_found);
}

TEST_CASE("Descriptions that do not fit the descriptors are invalid") {
  const std::vector<FilePiece> two{whole, whole};
  CHECK(parse_split(describe(2, two), 2));
  CHECK(parse_split(describe(2, two), 1).error().code() == Code::invalid_argument);
  CHECK(parse_split(describe(2, two), 3).error().code() == Code::invalid_argument);
  CHECK(parse_split(describe(0, {}), 0).error().code() == Code::invalid_argument);
  CHECK(parse_split(describe(1, two), 1).error().code() == Code::invalid_argument);
  CHECK(parse_split(describe(UINT32_MAX, two), 2).error().code() == Code::invalid_argument);
  const std::vector<FilePiece> many(proto::kernel::max_lent_files, whole);
  CHECK(parse_split(describe(128, many), 128));
  const std::vector<FilePiece> too_many(proto::kernel::max_lent_files + 1, whole);
  CHECK(parse_split(describe(129, too_many), 129).error().code() == Code::invalid_argument);
}

TEST_CASE("A description cut short anywhere is invalid") {
  const auto description = describe(2, {whole, whole});
  for (std::size_t size = 0; size < description.size(); ++size)
    CHECK(parse_split(std::span(description).first(size), 2).error().code() ==
          Code::invalid_argument);
}

TEST_CASE("A piece that exceeds its file is invalid") {
  for (const FilePiece& piece : {FilePiece{6, 0, 5}, FilePiece{0, 6, 5}, FilePiece{3, 3, 5},
                                 FilePiece{UINT64_MAX, 2, 5}, FilePiece{2, UINT64_MAX, 5}})
    CHECK(parse_split(describe(1, {piece}), 1).error().code() == Code::invalid_argument);
  CHECK(parse_split(describe(1, {{5, 0, 5}}), 1));
  CHECK(parse_split(describe(1, {{0, 0, 0}}), 1));
}

TEST_CASE("What is no regular file open for reading is refused, and nothing stays open") {
  int pipe_ends[2];
  REQUIRE(::pipe2(pipe_ends, O_CLOEXEC) == 0);
  const Fd pipe_read(pipe_ends[0]), pipe_write(pipe_ends[1]);
  const Fd folder(::open("/", O_RDONLY | O_CLOEXEC));
  const Fd path(::open("/proc/self/exe", O_PATH | O_CLOEXEC));
  const Fd device(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Fd file = make_file("hello");
  const Fd write_only(::open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
  for (const Fd* bad : {&pipe_read, &folder, &path, &device, &write_only}) {
    const Channel channel;
    channel.lend(describe(2, {whole, whole}), {file.get(), bad->get()});
    const std::size_t before = open_descriptors();
    CHECK(receive_split(channel.reader).error().code() == Code::invalid_argument);
    CHECK(open_descriptors() == before);
  }
}

TEST_CASE("More descriptors than fit are closed and refused with quota") {
  const Channel channel;
  const Fd file = make_file("hello");
  const std::vector<int> fds(proto::kernel::max_lent_files + 10, file.get());
  channel.lend(describe(128, std::vector<FilePiece>(128, whole)), fds);
  const std::size_t before = open_descriptors();
  CHECK(receive_split(channel.reader).error().code() == Code::quota);
  CHECK(open_descriptors() == before);
}

TEST_CASE("A process out of descriptors says quota") {
  const Channel channel;
  const Fd file = make_file("hello");
  channel.lend(describe(8, std::vector<FilePiece>(8, whole)), std::vector<int>(8, file.get()));
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit low{.rlim_cur = static_cast<rlim_t>(file.get()) + 4, .rlim_max = limit.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
  const auto split = receive_split(channel.reader);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  REQUIRE(!split);
  CHECK(split.error().code() == Code::quota);
  CHECK(receive_split(channel.reader));
}

TEST_CASE("A description beyond its limit is invalid") {
  const Channel channel;
  const Fd file = make_file("hello");
  channel.lend(std::vector<std::byte>(5000), {file.get()});
  CHECK(receive_split(channel.reader).error().code() == Code::invalid_argument);
}
