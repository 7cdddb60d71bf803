// Objects through the library.
#include <atomic>
#include <thread>
#include <vector>

#include "tests/system/abi/fixture.hpp"

using namespace aios;
using namespace aios::test;

namespace {

Owned<aios_storage> open_storage(aios_instance* instance) {
  aios_storage* storage = nullptr;
  ok(aios_storage_open(instance, &storage));
  return Owned<aios_storage>(storage);
}

aios_object_info put_text(aios_storage* storage, const char* name, const std::string& text) {
  aios_object_info info{};
  ok(aios_storage_put(storage, name, text.data(), text.size(), long_ns, &info));
  return info;
}

std::string get_text(aios_storage* storage, const char* name) {
  std::string text(64, '\0');
  std::size_t count = 0;
  ok(aios_storage_get(storage, name, 0, 0, text.data(), text.size(), long_ns, &count, nullptr));
  text.resize(count);
  return text;
}

}  // namespace

TEST_CASE("An object is stored, read in parts, renamed and removed") {
  const auto instance = attach();
  const auto storage = open_storage(instance.get());
  const aios_object_info info = put_text(storage.get(), "a/first", "0123456789");
  CHECK(info.size_bytes == 10);
  char part[4];
  std::size_t count = 0;
  ok(aios_storage_get(storage.get(), "a/first", info.version, 7, part, 4, long_ns, &count,
                      nullptr));
  CHECK(std::string(part, count) == "789");
  ok(aios_storage_get(storage.get(), "a/first", 0, 10, part, 4, long_ns, &count, nullptr));
  CHECK(count == 0);
  ok(aios_storage_rename(storage.get(), "a/first", "a/second", long_ns));
  aios_object_info now{};
  CHECK(aios_storage_stat(storage.get(), "a/first", long_ns, &now) == AIOS_NOT_FOUND);
  ok(aios_storage_stat(storage.get(), "a/second", long_ns, &now));
  CHECK(now.checksum == info.checksum);
  ok(aios_storage_remove(storage.get(), "a/second", long_ns));
  CHECK(aios_storage_remove(storage.get(), "a/second", long_ns) == AIOS_NOT_FOUND);
  CHECK(aios_storage_rename(storage.get(), "a/second", "b", long_ns) == AIOS_NOT_FOUND);
}

TEST_CASE("An object larger than any buffer comes back as it was, and an empty one is empty") {
  const auto instance = attach();
  const auto storage = open_storage(instance.get());
  std::string much(9u << 20, '\0');
  for (std::size_t i = 0; i < much.size(); ++i) much[i] = static_cast<char>(i * 31 >> 3);
  put_text(storage.get(), "large", much);
  std::string back(much.size() + 100, '\0');
  std::size_t count = 0;
  aios_object_info info{};
  ok(aios_storage_get(storage.get(), "large", 0, 0, back.data(), back.size(), long_ns, &count,
                      &info));
  back.resize(count);
  CHECK((back == much && info.size_bytes == much.size()));
  put_text(storage.get(), "empty", "");
  CHECK(get_text(storage.get(), "empty").empty());
}

TEST_CASE("A version that was replaced is source changed") {
  const auto instance = attach();
  const auto storage = open_storage(instance.get());
  const aios_object_info old = put_text(storage.get(), "versions", "one");
  put_text(storage.get(), "versions", "two");
  char text[8];
  std::size_t count = 0;
  CHECK(aios_storage_get(storage.get(), "versions", old.version, 0, text, 8, long_ns, &count,
                         nullptr) == AIOS_SOURCE_CHANGED);
  CHECK(aios_storage_get(storage.get(), "missing", 0, 0, text, 8, long_ns, &count, nullptr) ==
        AIOS_NOT_FOUND);
  CHECK(get_text(storage.get(), "versions") == "two");
}

TEST_CASE("Names that are none are refused") {
  const auto instance = attach();
  const auto storage = open_storage(instance.get());
  for (const std::string& name : {std::string(), std::string("/a"), std::string("a//b"),
                                  std::string("../a"), std::string(200, 'n')}) {
    CHECK(aios_storage_put(storage.get(), name.c_str(), "x", 1, long_ns, nullptr) ==
          AIOS_INVALID_ARGUMENT);
  }
  CHECK(aios_storage_put(storage.get(), nullptr, "x", 1, long_ns, nullptr) ==
        AIOS_INVALID_ARGUMENT);
}

TEST_CASE("Regions are filled and stored in place, and given back when they are closed") {
  const auto instance = attach();
  const auto storage = open_storage(instance.get());
  std::uint64_t got = 0;
  for (int round = 0; round < 80; ++round) {
    const auto region = create_region(instance.get(), 1 << 16);
    auto* bytes = static_cast<char*>(aios_region_data(region.get()));
    std::memcpy(bytes + 100, "in the middle", 13);
    ok(aios_storage_put_region(storage.get(), "placed", region.get(), 100, 13, long_ns, nullptr));
    ok(aios_storage_get_region(storage.get(), "placed", 0, 7, region.get(), 4096, 100, long_ns,
                               &got, nullptr));
    CHECK(std::string(bytes + 4096, got) == "middle");
    CHECK(aios_storage_put_region(storage.get(), "placed", region.get(), 1 << 16, 1, long_ns,
                                  nullptr) == AIOS_INVALID_ARGUMENT);
    CHECK(aios_storage_get_region(storage.get(), "placed", 0, 0, region.get(), ~0ull, 2, long_ns,
                                  &got, nullptr) == AIOS_INVALID_ARGUMENT);
  }
  const auto other = attach();
  const auto foreign = create_region(other.get(), 4096);
  CHECK(aios_storage_put_region(storage.get(), "placed", foreign.get(), 0, 1, long_ns, nullptr) ==
        AIOS_INVALID_ARGUMENT);
}

TEST_CASE("A region that is read-only here can be stored but not filled") {
  const auto first = attach();
  const auto region = create_region(first.get(), 4096);
  std::memcpy(aios_region_data(region.get()), "readable", 8);
  ok(aios_region_keep(region.get(), "for-storage", AIOS_GRANT_READ));
  const auto second = attach();
  aios_region* opened = nullptr;
  ok(aios_region_open(second.get(), "for-storage", AIOS_GRANT_READ, &opened));
  const Owned<aios_region> owned(opened);
  const auto storage = open_storage(second.get());
  ok(aios_storage_put_region(storage.get(), "readable", opened, 0, 8, long_ns, nullptr));
  CHECK(get_text(storage.get(), "readable") == "readable");
  std::uint64_t got = 0;
  CHECK(aios_storage_get_region(storage.get(), "readable", 0, 0, opened, 0, 8, long_ns, &got,
                                nullptr) == AIOS_INVALID_ARGUMENT);
  ok(aios_forget(second.get(), "for-storage"));
}

TEST_CASE("Objects are listed in order, by prefix and in pages") {
  const auto instance = attach();
  const auto storage = open_storage(instance.get());
  for (int i = 0; i < 25; ++i)
    put_text(storage.get(), ("pages/" + std::to_string(100 + i)).c_str(), "x");
  std::vector<std::string> names;
  std::string after;
  int more = 1;
  while (more != 0) {
    aios_object_entry entries[10];
    std::size_t count = 0;
    ok(aios_storage_list(storage.get(), "pages/", after.c_str(), entries, 10, long_ns, &count,
                         &more));
    REQUIRE(count != 0);
    for (std::size_t i = 0; i < count; ++i) names.emplace_back(entries[i].name);
    after = names.back();
  }
  CHECK(names.size() == 25);
  CHECK(std::is_sorted(names.begin(), names.end()));
  aios_object_entry none;
  std::size_t count = 1;
  ok(aios_storage_list(storage.get(), "nothing/", nullptr, &none, 1, long_ns, &count, &more));
  CHECK((count == 0 && more == 0));
}

TEST_CASE("Threads take turns over one storage, within their timeouts") {
  const auto instance = attach();
  const auto storage = open_storage(instance.get());
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      const std::string name = "threads/" + std::to_string(t);
      for (int i = 0; i < 20; ++i) {
        const std::string text = name + "-" + std::to_string(i);
        char back[64];
        std::size_t count = 0;
        if (aios_storage_put(storage.get(), name.c_str(), text.data(), text.size(), long_ns,
                             nullptr) != AIOS_OK ||
            aios_storage_get(storage.get(), name.c_str(), 0, 0, back, sizeof back, long_ns, &count,
                             nullptr) != AIOS_OK ||
            std::string(back, count) != text)
          ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("After storage was killed the next calls lend their memory again") {
  const auto instance = attach();
  const auto storage = open_storage(instance.get());
  const auto region = create_region(instance.get(), 4096);
  std::memcpy(aios_region_data(region.get()), "survives", 8);
  ok(aios_storage_put_region(storage.get(), "survivor", region.get(), 0, 8, long_ns, nullptr));
  const auto before = the_instance().server("storage");
  REQUIRE(before.has_value());
  ::kill(static_cast<pid_t>(before->pid), SIGKILL);
  REQUIRE(TestInstance::wait_until([&] { return process_gone(static_cast<pid_t>(before->pid)); }));
  std::uint64_t got = 0;
  ok(aios_storage_get_region(storage.get(), "survivor", 0, 0, region.get(), 1024, 100, long_ns,
                             &got, nullptr));
  CHECK(std::memcmp(static_cast<char*>(aios_region_data(region.get())) + 1024, "survives", 8) == 0);
}
