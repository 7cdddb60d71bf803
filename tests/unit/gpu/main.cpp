#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

/// For the leak check of sanitizer builds: vendors' libraries keep what they made until their
/// process ends, and so do our backends with what is theirs.
extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off() {
  return 1;
}
