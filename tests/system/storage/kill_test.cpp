// Kills the real aios-storage during puts and checks what the next one has against an oracle.
#include <doctest/doctest.h>
#include <signal.h>

#include <cstring>
#include <random>
#include <set>

#include "tests/protocol/storage/instance.hpp"

using namespace aios;
using namespace aios::storage::test;

namespace {

constexpr std::uint64_t slot_bytes = 512u << 10;
constexpr std::size_t slots = 8;  // puts in flight
constexpr std::size_t names = 24;
constexpr int kills = 15;

/// Bytes that tell which put they belong to.
struct Content {
  std::uint64_t number = 0;
  std::uint64_t size_bytes = 0;
  auto operator<=>(const Content&) const = default;

  void write(std::byte* to) const {
    std::mt19937_64 random(number);
    for (std::uint64_t at = 0; at < size_bytes; at += 8) {
      const std::uint64_t word = random();
      std::memcpy(to + at, &word, std::min<std::uint64_t>(8, size_bytes - at));
    }
  }
};

class Run {
 public:
  explicit Run(const std::string& arguments) : instance_(arguments), storage_(instance_) {
    memory_ = *Region::create(storage_.kernel(), slots * slot_bytes, "oracle");
    for (std::size_t i = 0; i < slots; ++i) free_slots_.push_back(i);
    for (std::size_t i = 0; i < names; ++i) possible_[name(i)] = {Content{}};
    storage_.client().on_disconnect([this] {
      gone_ = true;
      storage_.end_turn();
    });
  }

  /// Puts until `acknowledgements` more have come, then kills the server with puts in flight.
  void put_and_kill(std::uint64_t acknowledgements) {
    region_ = *storage_.attach(memory_, true);
    killed_ = gone_ = false;
    for (const std::uint64_t goal = acknowledged_ + acknowledgements; acknowledged_ < goal;
         storage_.turn())
      start_puts();
    start_puts();
    const pid_t pid = instance_.storage_pid(storage_.kernel());
    REQUIRE(pid > 0);
    REQUIRE(::kill(pid, SIGKILL) == 0);
    killed_ = true;
    // A server that is awake on another core may answer everything before it is gone.
    while (free_slots_.size() != slots || !gone_) storage_.turn();
  }

  void check() {
    region_ = *storage_.attach(memory_, true);
    std::vector<std::byte> expected(slot_bytes);
    for (auto& [name, contents] : possible_) {
      CAPTURE(name);
      const auto got =
          storage_.call<wire::Get>({0, slot_bytes, 0, 0, region_, 0, wire::ObjectName::from(name)});
      if (!got) REQUIRE(got.error().code() == Code::not_found);
      Content found{};
      for (const Content& content : contents) {
        if (!got || content.size_bytes != got->length) continue;
        content.write(expected.data());
        if (std::memcmp(expected.data(), memory_.data(), got->length) == 0) found = content;
      }
      if (got) REQUIRE(found.size_bytes != 0);
      REQUIRE(contents.contains(found));
      contents = {found};
    }
  }

  std::uint64_t acknowledged() const { return acknowledged_; }

 private:
  static std::string name(std::size_t i) { return "objects/" + std::to_string(i); }

  void start_puts() {
    while (!free_slots_.empty()) {
      const std::string target = name(random_() % names);
      if (busy_.contains(target)) continue;
      start_put(target);
    }
  }

  void start_put(const std::string& target) {
    const std::size_t slot = free_slots_.back();
    free_slots_.pop_back();
    busy_.insert(target);
    const Content content{
        ++number_, 1 + (random_() % 2 == 0 ? random_() % 16'000 : random_() % (slot_bytes - 1))};
    content.write(memory_.data() + slot * slot_bytes);
    possible_[target].insert(content);
    storage_.client().start<wire::Put>(
        {slot * slot_bytes, content.size_bytes, region_, 0, wire::ObjectName::from(target)},
        Deadline::after(patience_ns), [this, slot, target, content](const auto& reply) {
          storage_.end_turn();
          free_slots_.push_back(slot);
          busy_.erase(target);
          if (reply) {
            ++acknowledged_;
            possible_[target] = {content};
          } else {
            REQUIRE(killed_);
            // The new server may have been asked: it knows no region yet.
            const bool ended_by_kill = reply.error().code() == Code::peer_closed ||
                                       reply.error().code() == Code::not_found;
            REQUIRE(ended_by_kill);
          }
        });
  }

  Instance instance_;
  Connection storage_;
  Region memory_;
  std::uint32_t region_ = 0;
  std::mt19937_64 random_{42};
  std::vector<std::size_t> free_slots_;
  std::set<std::string> busy_;
  /// What may stand under each name; the content of size 0 is no object at all.
  std::map<std::string, std::set<Content>> possible_;
  std::uint64_t number_ = 0;
  std::uint64_t acknowledged_ = 0;
  bool killed_ = false;
  bool gone_ = false;
};

void kill_again_and_again(const std::string& arguments) {
  Run run(arguments);
  std::mt19937_64 random(7);
  for (int kill = 0; kill < kills; ++kill) {
    CAPTURE(kill);
    run.put_and_kill(1 + random() % 40);
    run.check();
  }
  CHECK(run.acknowledged() >= kills);
}

}  // namespace

TEST_CASE("Killing storage during puts loses nothing acknowledged") {
  kill_again_and_again({});
}

TEST_CASE("Killing storage during puts loses nothing acknowledged, with threads") {
  kill_again_and_again(R"("--backend", "threads")");
}
