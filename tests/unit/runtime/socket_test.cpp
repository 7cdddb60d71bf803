// Listening at a path that may be somebody's already.
#include "abi/runtime/socket.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <barrier>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace aios {
namespace {

constexpr int races = 200;

/// Whether a thread of this process waits for something.
bool sleeps(pid_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
  const std::string stat(std::istreambuf_iterator<char>(file), {});
  const std::size_t name_end = stat.rfind(')');
  return name_end != std::string::npos && stat.substr(name_end).starts_with(") S");
}

/// A folder that is gone with it, and the path of a socket in it.
class Place {
 public:
  Place() {
    char name[] = "/tmp/aios-socket-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    folder_ = name;
  }
  ~Place() { std::filesystem::remove_all(folder_); }

  std::string path() const { return folder_ / "aios.sock"; }

 private:
  std::filesystem::path folder_;
};

}  // namespace

TEST_CASE("Whoever_listens_replaces_a_socket_at_which_nobody_does_any_more") {
  const Place place;
  REQUIRE(listen_seqpacket(place.path()));
  REQUIRE(std::filesystem::is_socket(place.path()));
  const auto again = listen_seqpacket(place.path());
  REQUIRE(again);
  CHECK(connect_seqpacket(place.path()));
}

TEST_CASE("Whoever_listens_leaves_a_file_alone_and_says_already_exists") {
  const Place place;
  std::ofstream(place.path()) << "mine";
  const auto listener = listen_seqpacket(place.path());
  REQUIRE_FALSE(listener);
  CHECK(listener.error().code() == Code::already_exists);
  CHECK(std::filesystem::file_size(place.path()) == 4);
}

TEST_CASE("Whoever_listens_leaves_a_link_alone_even_one_that_leads_nowhere") {
  const Place place;
  std::filesystem::create_symlink("nothing", place.path());
  const auto listener = listen_seqpacket(place.path());
  REQUIRE_FALSE(listener);
  CHECK(listener.error().code() == Code::already_exists);
  CHECK(std::filesystem::is_symlink(place.path()));
}

TEST_CASE("Whoever_listens_leaves_another_listener_alone_and_says_already_exists") {
  const Place place;
  const auto first = listen_seqpacket(place.path());
  REQUIRE(first);
  const auto second = listen_seqpacket(place.path());
  REQUIRE_FALSE(second);
  CHECK(second.error().code() == Code::already_exists);
  // The first has its callers still.
  while (accept_seqpacket(*first)->valid()) {
  }
  REQUIRE(connect_seqpacket(place.path()));
  CHECK(accept_seqpacket(*first)->valid());
}

TEST_CASE(
    "Who_finds_no_room_among_those_who_wait_is_told_at_its_deadline_and_let_in_when_there_is") {
  const Place place;
  const auto listener = listen_seqpacket(place.path());
  REQUIRE(listener);
  std::vector<Fd> waiting;
  const auto once = [&] { return connect_seqpacket(place.path(), Deadline::after(0)); };
  auto next = once();
  for (; next; next = once()) waiting.push_back(*std::move(next));
  CHECK(next.error().code() == Code::timed_out);
  std::optional<Result<Fd>> patient;
  std::atomic<pid_t> thread = 0;
  std::atomic<bool> ended = false;
  std::thread other([&, path = place.path()] {
    thread = ::gettid();
    patient = connect_seqpacket(path);
    ended = true;
  });
  // It was refused, and sleeps until it tries again: else it would end without having waited.
  while (thread == 0 || !(ended || sleeps(thread))) std::this_thread::yield();
  CHECK_FALSE(ended);
  while (accept_seqpacket(*listener)->valid()) {
  }
  other.join();
  REQUIRE(patient->has_value());
  // What is connected waits for what comes.
  CHECK((::fcntl((*patient)->get(), F_GETFL) & O_NONBLOCK) == 0);
}

TEST_CASE("Of_two_who_listen_at_once_where_a_socket_was_left_exactly_one_does") {
  const Place place;
  for (int i = 0; i < races; ++i) {
    REQUIRE(listen_seqpacket(place.path()));
    std::barrier<> both(2);
    std::array<std::optional<Result<Fd>>, 2> listeners;
    const auto listen = [&](std::size_t which) {
      both.arrive_and_wait();
      listeners[which] = listen_seqpacket(place.path());
    };
    std::thread other(listen, 0);
    listen(1);
    other.join();
    CHECK(listeners[0]->has_value() != listeners[1]->has_value());
  }
  // Nothing is left of how they took turns.
  CHECK_FALSE(std::filesystem::exists(place.path() + ".lock"));
}

TEST_CASE("Whoever_listens_waits_for_no_lock_of_another_user") {
  if (::geteuid() != 0) return;
  const Place place;
  const std::string lock = place.path() + ".lock";
  std::ofstream(lock).close();
  REQUIRE(::chown(lock.c_str(), 65534, 65534) == 0);
  const Fd held(::open(lock.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(::flock(held.get(), LOCK_EX) == 0);
  const auto listener = listen_seqpacket(place.path());
  REQUIRE_FALSE(listener);
  CHECK(listener.error().code() == Code::denied);
  CHECK(std::filesystem::exists(lock));
}

}  // namespace aios
