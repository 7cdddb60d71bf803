// Writes an object, reads it back, lists and removes it: storage
#include <aios/aios.hpp>
#include <cstdio>
#include <string>

int main() {
  constexpr std::uint64_t timeout_ns = 20'000'000'000;
  const std::string name = "examples/greeting";
  try {
    aios::Instance instance;
    aios::Storage storage = instance.storage(timeout_ns);
    storage.put(name, std::string_view("hello from a program"));
    const auto bytes = storage.get_bytes(name);
    std::printf("read: %.*s\n", static_cast<int>(bytes.size()),
                reinterpret_cast<const char*>(bytes.data()));
    {
      // The same straight into shared memory, without a copy on the way.
      const aios::Region region = instance.create_region(4096, "greeting");
      const std::uint64_t got = storage.get_into(region, 0, region.size(), name);
      std::printf("in shared memory: %.*s\n", static_cast<int>(got), region.as<char>().data());
    }
    for (const aios_object_entry& entry : storage.list("examples/"))
      std::printf("%s has %llu bytes\n", entry.name,
                  static_cast<unsigned long long>(entry.info.size_bytes));
    storage.remove(name);
  } catch (const aios::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
