#include "drivers/device/buffer_table.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>

#include "tests/unit/device/test_support.hpp"

using namespace aios;
using namespace aios::device;

namespace {

constexpr std::size_t region_bytes = 8192;

Result<Buffer> make_buffer(bool writable, std::uint64_t offset, std::uint64_t length) {
  const Fd memory = test::make_memory(region_bytes);
  Mapping read = *Mapping::map(memory, region_bytes, Mapping::Access::read);
  Mapping write;
  if (writable) write = *Mapping::map(memory, region_bytes, Mapping::Access::read_write);
  return Buffer::memory(std::move(read), std::move(write), offset, length);
}

FileSplit make_split() {
  FileSplit split;
  split.fds.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  split.pieces.push_back(
      {.fd = split.fds[0].get(), .index = 0, .offset = 1, .length = 2, .file_size = 3});
  return split;
}

void nothing() {}

}  // namespace

TEST_CASE("A buffer shows exactly its bytes of the region") {
  const auto buffer = make_buffer(true, 100, 50);
  REQUIRE(buffer);
  const aios_buffer out = buffer->view(AIOS_MODE_WRITE).value();
  CHECK(out.size == 50);
  CHECK(out.files == nullptr);
  static_cast<char*>(out.data)[0] = 'x';
  const aios_buffer in = buffer->view(AIOS_MODE_READ).value();
  CHECK(in.data != out.data);
  CHECK(static_cast<const char*>(in.data)[0] == 'x');
}

TEST_CASE("A buffer outside its region is invalid") {
  CHECK(make_buffer(false, 0, region_bytes));
  CHECK(make_buffer(false, region_bytes - 1, 1));
  for (const auto& [offset, length] : {std::pair<std::uint64_t, std::uint64_t>(0, 0),
                                       {1, region_bytes},
                                       {region_bytes, 1},
                                       {UINT64_MAX, 2},
                                       {2, UINT64_MAX}})
    CHECK(make_buffer(false, offset, length).error().code() == Code::invalid_argument);
}

TEST_CASE("Writing to a buffer that was bound read-only is denied") {
  const auto buffer = make_buffer(false, 0, 10);
  CHECK(buffer->view(AIOS_MODE_READ));
  for (const std::uint32_t mode : {AIOS_MODE_WRITE, AIOS_MODE_READ_WRITE, AIOS_MODE_SCRATCH})
    CHECK(buffer->view(mode).error().code() == Code::denied);
}

TEST_CASE("An unknown mode is invalid") {
  const auto buffer = make_buffer(true, 0, 10);
  for (const std::uint32_t mode : {0u, 5u, UINT32_MAX})
    CHECK(buffer->view(mode).error().code() == Code::invalid_argument);
}

TEST_CASE("Lent files can only be read") {
  const Buffer buffer = Buffer::files(make_split());
  const aios_buffer view = buffer.view(AIOS_MODE_READ).value();
  CHECK(view.data == nullptr);
  REQUIRE(view.file_count == 1);
  CHECK(view.files[0].length == 2);
  CHECK(buffer.view(AIOS_MODE_WRITE).error().code() == Code::denied);
}

TEST_CASE("A buffer in use cannot be unbound, and is released by its last user") {
  BufferTable table;
  int released = 0;
  REQUIRE(table.bind(7, *make_buffer(false, 0, 1), [&] { ++released; }));
  {
    const auto in_use = table.use(7).value();
    CHECK(table.unbind(7).error().code() == Code::busy);
  }
  CHECK(released == 0);
  CHECK(table.unbind(7));
  CHECK(released == 1);
  CHECK(table.unbind(7).error().code() == Code::not_found);
}

TEST_CASE("Binding a number again replaces what was there, once nobody uses it") {
  BufferTable table;
  int released = 0;
  REQUIRE(table.bind(0, *make_buffer(false, 0, 1), [&] { ++released; }));
  {
    const auto in_use = table.use(0).value();
    REQUIRE(table.bind(0, *make_buffer(false, 0, 2), nothing));
    CHECK(released == 0);
    CHECK(table.use(0).value()->view(AIOS_MODE_READ)->size == 2);
  }
  CHECK(released == 1);
}

TEST_CASE("Numbers out of range are refused") {
  BufferTable table;
  CHECK(table.bind(4096, *make_buffer(false, 0, 1), nothing).error().code() ==
        Code::invalid_argument);
  CHECK(table.bind(4095, *make_buffer(false, 0, 1), nothing));
  CHECK(table.unbind(1ull << 32 | 4095).error().code() == Code::not_found);
  CHECK(table.use(UINT32_MAX).error().code() == Code::invalid_argument);
}
