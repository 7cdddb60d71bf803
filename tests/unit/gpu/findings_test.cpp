// What a look for GPUs has found, as text and back.
#include "drivers/gpu/look/findings.hpp"

#include <doctest/doctest.h>

using namespace aios::gpu;

namespace {

DeviceInfo a_device() {
  DeviceInfo info;
  info.backend = "opencl";
  info.uuid = "CL-0-0";
  info.model = "A GPU of 2026";
  info.multiprocessors = 12;
  info.memory_bytes = 1u << 30;
  info.pci_address = "0000:01:00.0";
  info.numa_node = 1;
  info.peers = 6;
  info.library = "libvendor.so.1";
  info.exports_memory = true;
  return info;
}

}  // namespace

TEST_CASE("Findings are the same after they were told") {
  const Findings told{{a_device()}, {{"cuda", "not installed", "install it"}}};
  const auto heard = from_text(to_text(told));
  REQUIRE(heard);
  REQUIRE(heard->devices.size() == 1);
  const DeviceInfo& device = heard->devices.front();
  CHECK(device.uuid == "CL-0-0");
  CHECK(device.model == "A GPU of 2026");
  CHECK(device.multiprocessors == 12);
  CHECK(device.memory_bytes == 1u << 30);
  CHECK(device.pci_address == "0000:01:00.0");
  CHECK(device.numa_node == 1);
  CHECK(device.peers == 6);
  CHECK(device.library == "libvendor.so.1");
  CHECK(device.exports_memory);
  CHECK(heard->absent == told.absent);
}

TEST_CASE("Findings that are cut off are none") {
  const std::string text = to_text({{a_device()}, {}});
  for (std::size_t length = 0; length + 1 < text.size(); length += 7)
    CHECK(!from_text(text.substr(0, length)));
}

TEST_CASE("A device that makes no sense is an absence that says so") {
  DeviceInfo nameless = a_device();
  nameless.model = " ";
  DeviceInfo without_memory = a_device();
  without_memory.memory_bytes = 0;
  DeviceInfo enormous = a_device();
  enormous.multiprocessors = UINT32_MAX;
  for (const DeviceInfo& wrong : {nameless, without_memory, enormous}) {
    const auto heard = from_text(to_text({{wrong}, {}}));
    REQUIRE(heard);
    CHECK(heard->devices.empty());
    REQUIRE(heard->absent.size() == 1);
    CHECK(heard->absent.front().backend == "opencl");
    CHECK(heard->absent.front().why.find("makes no sense") != std::string::npos);
  }
}

TEST_CASE("What a vendor's library says breaks no line") {
  DeviceInfo hostile = a_device();
  hostile.model = "a\tb\nend\n\x1b[31m\xff";
  const auto heard = from_text(to_text({{hostile}, {{"cuda", "a\nb", "\t"}}}));
  REQUIRE(heard);
  REQUIRE(heard->devices.size() == 1);
  CHECK(heard->devices.front().model == "a b end  [31m ");
  REQUIRE(heard->absent.size() == 1);
  CHECK(heard->absent.front().why == "a b");
}

TEST_CASE("The same absence is told once") {
  Findings all{{}, {{"opencl", "no loader", "install it"}}};
  all.merge({{}, {{"opencl", "no loader", "install it"}}});
  all.merge({{}, {{"opencl", "another", "install it"}}});
  CHECK(all.absent.size() == 2);
}
