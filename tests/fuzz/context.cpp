#include <dlfcn.h>

#include <fstream>
#include <iterator>
#include <string>

#include "drivers/cpu/cpu_backend.hpp"
#include "drivers/device/context_server.hpp"
#include "tests/fuzz/target.hpp"

namespace {

using namespace aios;
namespace px = proto::context;

std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

const std::string& module_bytes() {
  static const std::string bytes = read_file(AIOS_FUZZ_MODULE);
  return bytes;
}

/// Modules are the one module, or no modules: what a foreign module does to its context is its own
/// affair. Regions that hold it are sent for reading only.
struct ContextHost : fuzz::Host {
  static constexpr std::uint32_t max_blocks = 64;

  explicit ContextHost(fuzz::Place place)
      : backend(place.folder, 1),
        context(device::ContextServer::create(place.kernel, place.loop, {0}, backend).value()),
        server(place.kernel, place.loop, *context) {
    context->answer_through(server);
    (void)server.listen(place.port);
  }
  std::uint64_t wait_ns() const override { return ns_per_ms; }
  bool must_settle() const override { return true; }
  /// A run that exceeds its limit ends the process; a large grid takes long.
  void guard(std::uint16_t opcode, std::span<std::byte> bytes) override {
    if (opcode != px::Run::opcode) return;
    px::Run::Request request;
    std::memcpy(&request, bytes.data(), sizeof request);
    request.limit_ns = request.limit_ns == 0 ? 0 : ~0ull;
    const auto blocks = device::count_blocks(request.grid);
    if (blocks && *blocks > max_blocks)
      for (std::uint32_t& side : request.grid) side = side % 4 + 1;
    std::memcpy(bytes.data(), &request, sizeof request);
  }
  std::span<const std::byte> contents() const override {
    return std::as_bytes(std::span(module_bytes()));
  }
  cpu::CpuBackend backend;
  std::unique_ptr<device::ContextServer> context;
  Server<px::Protocol, device::ContextServer> server;
};

}  // namespace

extern "C" void* __real_dlopen(const char* path, int flags);

/// A context never unloads a module, and one process here is thousands of contexts: the module is
/// loaded once for all of them.
extern "C" void* __wrap_dlopen(const char* path, int flags) {
  static void* const loaded = __real_dlopen(AIOS_FUZZ_MODULE, flags);
  return read_file(path) == module_bytes() ? loaded : __real_dlopen(path, flags);
}

AIOS_FUZZ_SERVER(px::Protocol, ContextHost)
