// What makes a fuzzer a program: AIOS_FUZZ_PROGRAM(write_seeds, look_at). With `--seeds DIR` it
// writes its seed corpus there, by write_seeds(DIR), and ends; libFuzzer gives each input to
// look_at, a span of bytes.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#define AIOS_FUZZ_PROGRAM(write_seeds, look_at)                                              \
  extern "C" __attribute__((visibility("default"))) int LLVMFuzzerInitialize(int* argc,      \
                                                                             char*** argv) { \
    if (*argc != 3 || std::string_view((*argv)[1]) != "--seeds") return 0;                   \
    write_seeds((*argv)[2]);                                                                 \
    std::exit(0);                                                                            \
  }                                                                                          \
  extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(              \
      const std::uint8_t* data, std::size_t size) {                                          \
    look_at(std::span<const std::uint8_t>(data, size));                                      \
    return 0;                                                                                \
  }
