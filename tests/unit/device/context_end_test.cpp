#include "drivers/device/context_end.hpp"

#include <doctest/doctest.h>

#include <csignal>

#include "abi/runtime/fault_handler.hpp"

using namespace aios::device;
using aios::exit_signal_base;
using aios::proto::driver::ContextEnd;

TEST_CASE("A reported fault names its signal") {
  const End end = describe_end(false, exit_signal_base + SIGSEGV);
  CHECK(end.how == ContextEnd::fault);
  CHECK(end.cause == "segmentation fault (signal 11)");
  CHECK(describe_end(true, SIGABRT).cause == "aborted (signal 6)");
  CHECK(describe_end(true, SIGABRT).how == ContextEnd::fault);
}

TEST_CASE("SIGKILL comes from outside and speaks against no task") {
  CHECK(describe_end(true, SIGKILL).how == ContextEnd::killed);
}

TEST_CASE("A time limit, an ending in order and a failed start are told apart") {
  CHECK(describe_end(false, exit_limit).how == ContextEnd::limit);
  CHECK(describe_end(false, exit_in_order).how == ContextEnd::exited);
  CHECK(describe_end(false, exit_setup).how == ContextEnd::exited);
  CHECK(describe_end(false, exit_setup).cause != describe_end(false, exit_in_order).cause);
}

TEST_CASE("A device that is gone speaks against no task, and is looked for") {
  CHECK(describe_end(false, exit_device_gone).how == ContextEnd::exited);
  CHECK(describe_end(false, exit_device_gone).doubts_device);
  CHECK(describe_end(false, exit_setup).doubts_device);
  CHECK(!describe_end(false, exit_device_lost).doubts_device);
  CHECK(!describe_end(true, SIGKILL).doubts_device);
}

TEST_CASE("A task that calls exit is at fault, whatever code it gives") {
  for (const int code : {0, 1, 127, 128, 255}) {
    CHECK(describe_end(false, code).how == ContextEnd::fault);
    CHECK(describe_end(false, code).cause.find(std::to_string(code)) != std::string::npos);
  }
}

TEST_CASE("Every cause fits its field in the reply") {
  for (int code = 0; code < 256; ++code) {
    CHECK(describe_end(false, code).cause.size() < 128);
    CHECK(describe_end(true, code).cause.size() < 128);
  }
}
