// The fuzzer of one server: AIOS_FUZZ_SERVER(Protocol, Host) makes the program (entry.hpp).
#pragma once

#include "tests/fuzz/entry.hpp"
#include "tests/fuzz/session.hpp"

#define AIOS_FUZZ_SERVER(Protocol, Server)                                                 \
  static const ::aios::fuzz::ProtocolShape& fuzzed_protocol() {                            \
    static const auto shape = ::aios::fuzz::protocol_shape<Protocol>();                    \
    return shape;                                                                          \
  }                                                                                        \
  static void write_server_seeds(const char* folder) {                                     \
    ::aios::fuzz::write_seeds(fuzzed_protocol(), folder);                                  \
  }                                                                                        \
  static void run_server(std::span<const std::uint8_t> input) {                            \
    ::aios::fuzz::run_session(                                                             \
        fuzzed_protocol(),                                                                 \
        [](::aios::fuzz::Place place) { return std::make_unique<Server>(place); }, input); \
  }                                                                                        \
  AIOS_FUZZ_PROGRAM(write_server_seeds, run_server)
