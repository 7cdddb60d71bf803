// The fuzzer of one server: AIOS_FUZZ_SERVER(Protocol, Host) makes the program. With `--seeds DIR`
// it writes its seed corpus there and ends.
#pragma once

#include <cstdlib>
#include <string_view>

#include "tests/fuzz/session.hpp"

#define AIOS_FUZZ_SERVER(Protocol, Server)                                                        \
  static const ::aios::fuzz::ProtocolShape& fuzzed_protocol() {                                   \
    static const auto shape = ::aios::fuzz::protocol_shape<Protocol>();                           \
    return shape;                                                                                 \
  }                                                                                               \
  extern "C" __attribute__((visibility("default"))) int LLVMFuzzerInitialize(int* argc,           \
                                                                             char*** argv) {      \
    if (*argc != 3 || std::string_view((*argv)[1]) != "--seeds") return 0;                        \
    ::aios::fuzz::write_seeds(fuzzed_protocol(), (*argv)[2]);                                     \
    std::exit(0);                                                                                 \
  }                                                                                               \
  extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(                   \
      const std::uint8_t* data, std::size_t size) {                                               \
    ::aios::fuzz::run_session(                                                                    \
        fuzzed_protocol(),                                                                        \
        [](::aios::fuzz::Place place) { return std::make_unique<Server>(place); }, {data, size}); \
    return 0;                                                                                     \
  }
