// One service, several threads; a fork; a foreign event loop; and what the library leaves alone.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/system/abi/fixture.hpp"

using namespace aios;
using namespace aios::test;

namespace {

/// The numbers that a folder of /proc lists.
std::set<int> numbers_in(const char* folder) {
  std::set<int> numbers;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    numbers.insert(std::stoi(entry.path().filename()));
  return numbers;
}

/// The exit code of a forked child that runs `body`.
template <class Body>
int in_child(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

}  // namespace

TEST_CASE("Threads that call over one service at once all get their own answers") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 2000; ++i) {
        Echo::Request request{};
        request.value = t << 32 | i;
        Echo::Reply reply{};
        if (aios_call_method(echo.get(), Echo::opcode, &request, sizeof request, &reply,
                             sizeof reply, long_ns) != AIOS_OK ||
            reply.value != request.value)
          ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("A thread that waits for one call does not hold up others, and is woken by them") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  for (std::uint64_t round = 0; round < 200; ++round) {
    const auto call = hold(echo.get(), 1000 + round);
    std::atomic<aios_code> waited = AIOS_INTERNAL;
    std::thread waiter([&] {
      auto item = wait_item(call.get());
      waited = aios_wait(&item, 1, long_ns);
    });
    // This thread takes the other's answer out of the ring as often as not.
    for (std::uint64_t i = 0; i < round % 7; ++i) CHECK(echo_once(echo.get(), i) == i);
    CHECK(release(echo.get(), 1000 + round) == 1);
    for (std::uint64_t i = 0; i < 5; ++i) CHECK(echo_once(echo.get(), i) == i);
    waiter.join();
    REQUIRE(waited == AIOS_OK);
  }
}

TEST_CASE(
    "A blocking call ends in time while another thread blocks for longer on the same service") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  std::atomic<aios_code> slow = AIOS_INTERNAL;
  std::thread blocked([&] {
    const Hold::Request request{3000};
    proto::Empty reply{};
    slow = aios_call_method(echo.get(), Hold::opcode, &request, sizeof request, &reply,
                            sizeof reply, long_ns);
  });
  const Hold::Request request{3001};
  proto::Empty reply{};
  CHECK(aios_call_method(echo.get(), Hold::opcode, &request, sizeof request, &reply, sizeof reply,
                         10 * ns_per_ms) == AIOS_TIMED_OUT);
  const auto other = attach();
  const auto releaser = connect_echo(other.get());
  std::uint64_t released = 0;
  CHECK(TestInstance::wait_until([&] { return (released = release(releaser.get(), 3000)) != 0; }));
  blocked.join();
  CHECK(slow == AIOS_OK);
}

TEST_CASE(
    "In a forked child everything of the parent's is a bad handle and nothing of it is hurt") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  const auto region = create_region(instance.get(), 4096);
  const auto call = hold(echo.get(), 20);
  CHECK(echo_once(echo.get(), 1) == 1);
  std::memcpy(aios_region_data(region.get()), "shared", 7);
  const int code = in_child([&] {
    Release::Request request{20};
    Release::Reply reply{};
    aios_call* other = nullptr;
    aios_service* service = nullptr;
    aios_region* made = nullptr;
    std::uint64_t handle = 0;
    int number = 0;
    auto item = wait_item(call.get());
    if (aios_call_method(echo.get(), 3, &request, 8, &reply, 8, long_ns) != AIOS_BAD_HANDLE)
      return 1;
    if (aios_call_start(echo.get(), 3, &request, 8, long_ns, &other) != AIOS_BAD_HANDLE) return 2;
    if (aios_call_result(call.get(), &reply, 8) != AIOS_BAD_HANDLE) return 3;
    if (aios_wait(&item, 1, long_ns) != AIOS_BAD_HANDLE) return 4;
    if (aios_connect(instance.get(), "echo", 1, &service) != AIOS_BAD_HANDLE) return 5;
    if (aios_region_create(instance.get(), 4096, "", 0, &made) != AIOS_BAD_HANDLE) return 6;
    if (aios_grant(echo.get(), region.get(), 1, long_ns, &handle) != AIOS_BAD_HANDLE) return 7;
    if (aios_arm(instance.get(), &number) != AIOS_BAD_HANDLE) return 8;
    if (std::strcmp(static_cast<char*>(aios_region_data(region.get())), "shared") != 0) return 9;
    aios_call_free(call.get());
    aios_service_close(echo.get());
    aios_region_close(region.get());
    aios_detach(instance.get());
    // The child may attach for itself.
    const std::string socket = the_instance().socket_path();
    aios_attach_options options{};
    options.socket_path = socket.c_str();
    aios_instance* own = nullptr;
    if (aios_attach(&options, &own) != AIOS_OK) return 10;
    if (aios_connect(own, "echo", proto::echo::Protocol::version, &service) != AIOS_OK) return 11;
    if (aios_call_method(service, 3, &request, 8, &reply, 8, long_ns) != AIOS_OK) return 12;
    aios_service_close(service);
    aios_detach(own);
    return reply.released == 1 ? 0 : 13;
  });
  CHECK(code == 0);
  auto item = wait_item(call.get());
  ok(aios_wait(&item, 1, long_ns));
  for (std::uint64_t i = 0; i < 100; ++i) REQUIRE(echo_once(echo.get(), i) == i);
}

TEST_CASE("A fork while other threads call leaves the child able to attach") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&] {
      while (!stop) (void)echo_once(echo.get(), 1);
    });
  for (int round = 0; round < 20; ++round)
    CHECK(in_child([] {
            const std::string socket = the_instance().socket_path();
            aios_attach_options options{};
            options.socket_path = socket.c_str();
            aios_instance* own = nullptr;
            const aios_code code = aios_attach(&options, &own);
            aios_detach(own);
            return static_cast<int>(code);
          }) == 0);
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE("A foreign epoll loop sees answers, deadlines and what other threads took") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  const auto other = attach();
  const auto releaser = connect_echo(other.get());
  int fd = -1;
  ok(aios_poll_fd(instance.get(), &fd));
  const Fd loop(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event watch{};
  watch.events = EPOLLIN;
  REQUIRE(::epoll_ctl(loop.get(), EPOLL_CTL_ADD, fd, &watch) == 0);
  const auto until_done = [&](aios_call* call) {
    proto::Empty reply{};
    for (int turn = 0; turn < 1000; ++turn) {
      ok(aios_dispatch(instance.get()));
      const aios_code code = aios_call_result(call, &reply, sizeof reply);
      if (code != AIOS_BUSY) return code;
      int ready = 0;
      ok(aios_arm(instance.get(), &ready));
      if (ready != 0) continue;
      epoll_event event{};
      REQUIRE(::epoll_wait(loop.get(), &event, 1, static_cast<int>(patience_ns / ns_per_ms)) == 1);
    }
    return AIOS_INTERNAL;
  };
  for (std::uint64_t round = 0; round < 100; ++round) {
    const auto call = hold(echo.get(), 4000 + round);
    std::thread helper([&] {
      // Half the time over the same service: then this thread takes the answer out of the ring.
      aios_service* by = round % 2 == 0 ? releaser.get() : echo.get();
      while (release(by, 4000 + round) == 0) {
      }
    });
    CHECK(until_done(call.get()) == AIOS_OK);
    helper.join();
  }
  const auto late = hold(echo.get(), 5000, 20 * ns_per_ms);
  CHECK(until_done(late.get()) == AIOS_TIMED_OUT);
  ok(aios_disarm(instance.get()));
  ok(aios_disarm(instance.get()));
}

TEST_CASE("A thread that dispatches takes no wake-up away from one that sleeps") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  const auto server = serve(instance.get(), "beside");
  const auto other = attach();
  const auto releaser = connect_echo(other.get());
  const auto caller = connect(other.get(), "beside", 1);
  std::atomic<bool> stop = false;
  std::thread dispatcher([&] {
    while (!stop) (void)aios_dispatch(instance.get());
  });
  std::thread serving([&] {
    aios_request* request = nullptr;
    bool last = false;
    while (!last && aios_server_next(server.get(), long_ns, &request) == AIOS_OK) {
      last = aios_request_opcode(request) == 2;
      (void)aios_request_reply(request, nullptr, 0);
    }
  });
  for (std::uint64_t round = 0; round < 300; ++round) {
    const auto call = hold(echo.get(), 6000 + round);
    std::thread waiter([&] {
      auto item = wait_item(call.get());
      CHECK(aios_wait(&item, 1, long_ns) == AIOS_OK);
    });
    // Every answer needs the one thread to be woken that serves.
    CHECK(aios_call_method(caller.get(), 1, nullptr, 0, nullptr, 0, long_ns) == AIOS_OK);
    while (release(releaser.get(), 6000 + round) == 0) {
    }
    waiter.join();
  }
  CHECK(aios_call_method(caller.get(), 2, nullptr, 0, nullptr, 0, long_ns) == AIOS_OK);
  serving.join();
  stop = true;
  dispatcher.join();
}

TEST_CASE("A thread that sleeps is woken however many answers another has taken meanwhile") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  const auto other = attach();
  const auto releaser = connect_echo(other.get());
  for (std::uint64_t round = 0; round < 50; ++round) {
    std::atomic<aios_code> slept = AIOS_INTERNAL;
    std::thread sleeper([&] {
      const Hold::Request request{7000 + round};
      proto::Empty reply{};
      slept = aios_call_method(echo.get(), Hold::opcode, &request, sizeof request, &reply,
                               sizeof reply, long_ns);
    });
    // So many that the bell is emptied at times, by a thread that need not have slept.
    for (std::uint64_t i = 0; i < 2500; ++i) REQUIRE(echo_once(echo.get(), i) == i);
    while (release(releaser.get(), 7000 + round) == 0) {
    }
    sleeper.join();
    REQUIRE(slept == AIOS_OK);
  }
}

namespace {

/// A program's service, and the program: all in one thread, so that what is asleep stays asleep.
struct BothSides {
  Attached owner = attach();
  Owned<aios_server> server = serve(owner.get(), "both-sides");
  Attached client = attach();
  Owned<aios_service> service = connect(client.get(), "both-sides", 1);

  Owned<aios_call> start(std::uint16_t opcode, std::uint64_t timeout_ns = long_ns) {
    const proto::Empty nothing{};
    aios_call* call = nullptr;
    ok(aios_call_start(service.get(), opcode, &nothing, sizeof nothing, timeout_ns, &call));
    return Owned<aios_call>(call);
  }
  aios_request* next() {
    aios_request* request = nullptr;
    ok(aios_server_next(server.get(), long_ns, &request));
    return request;
  }
  static void answer(aios_request* request) { ok(aios_request_reply(request, nullptr, 0)); }
  /// Until something happens there.
  static void arm(aios_instance* instance) {
    for (int ready = 1; ready != 0;) {
      ok(aios_dispatch(instance));
      ok(aios_arm(instance, &ready));
    }
  }
  static bool readable(aios_instance* instance) {
    int fd = -1;
    ok(aios_poll_fd(instance, &fd));
    pollfd event{fd, POLLIN, 0};
    return ::poll(&event, 1, 0) == 1;
  }
  /// One call, and so the connection.
  void warm_up() {
    const auto call = start(1);
    aios_request* request = nullptr;
    while (aios_server_next(server.get(), ns_per_ms, &request) == AIOS_TIMED_OUT)
      (void)aios_call_result(call.get(), nullptr, 0);
    answer(request);
    ok(aios_call_result(call.get(), nullptr, 0));
  }
};

/// So many messages that a link empties its bell three times, and three in each round: each of the
/// three is once the one at which it does.
constexpr int rounds_of_three = 1100;

}  // namespace

TEST_CASE("An answer that came too late takes no wake-up away from a loop that is armed") {
  BothSides both;
  both.warm_up();
  for (int round = 0; round < rounds_of_three; ++round) {
    const auto late = both.start(1, 1);
    const auto awaited = both.start(1);
    aios_request* const requests[2] = {both.next(), both.next()};
    both.arm(both.client.get());
    // Rings for the loop. Somebody else takes it, which nobody need be told.
    both.answer(requests[0]);
    CHECK(aios_call_result(awaited.get(), nullptr, 0) == AIOS_BUSY);
    both.answer(requests[1]);
    REQUIRE(both.readable(both.client.get()));
    ok(aios_dispatch(both.client.get()));
    ok(aios_call_result(awaited.get(), nullptr, 0));
    CHECK(aios_call_result(late.get(), nullptr, 0) == AIOS_TIMED_OUT);
    const auto third = both.start(1);
    both.answer(both.next());
    ok(aios_call_result(third.get(), nullptr, 0));
  }
}

TEST_CASE("A server that replies takes no wake-up away from its own loop that is armed") {
  BothSides both;
  both.warm_up();
  for (int round = 0; round < rounds_of_three; ++round) {
    const auto first = both.start(1);
    aios_request* const request = both.next();
    both.arm(both.owner.get());
    // Rings for the loop. Whoever replies takes it, and answers it for the program.
    const auto null = both.start(proto::Null::opcode);
    both.answer(request);
    const auto second = both.start(1);
    REQUIRE(both.readable(both.owner.get()));
    ok(aios_dispatch(both.owner.get()));
    both.answer(both.next());
    for (const auto* call : {&first, &second}) ok(aios_call_result(call->get(), nullptr, 0));
    proto::Empty nothing{};
    ok(aios_call_result(null.get(), &nothing, sizeof nothing));
  }
}

TEST_CASE("A call that is started while the descriptor is armed makes it readable") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  int fd = -1;
  int ready = 1;
  ok(aios_poll_fd(instance.get(), &fd));
  while (ready != 0) {
    ok(aios_dispatch(instance.get()));
    ok(aios_arm(instance.get(), &ready));
  }
  pollfd readable{fd, POLLIN, 0};
  CHECK(::poll(&readable, 1, 0) == 0);
  const auto call = hold(echo.get(), 21);
  CHECK(::poll(&readable, 1, static_cast<int>(patience_ns / ns_per_ms)) == 1);
  ok(aios_disarm(instance.get()));
  CHECK(release(echo.get(), 21) == 1);
}

namespace {

/// While it lives, this process has no descriptors left but `left`.
class FewDescriptors {
 public:
  explicit FewDescriptors(int left) {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const rlimit few{256, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (int fd = next(); fd >= 0; fd = next()) taken_.emplace_back(fd);
    taken_.resize(taken_.size() - static_cast<std::size_t>(left));
  }
  FewDescriptors(const FewDescriptors&) = delete;
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  static int next() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }
  rlimit before_{};
  std::vector<Fd> taken_;
};

}  // namespace

TEST_CASE("A thread without descriptors to wait with waits all the same, and harms no other") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  CHECK(echo_once(echo.get(), 1) == 1);
  aios_tenant* made = nullptr;
  ok(aios_tenant_open(instance.get(), long_ns, &made));
  const Owned<aios_tenant> tenant(made);
  const auto others = hold(echo.get(), 8500);
  aios_code late = AIOS_OK;
  aios_code in_time = AIOS_INTERNAL;
  aios_code completions = AIOS_INTERNAL;
  {
    // One: for its event, and none for a set.
    const FewDescriptors few(1);
    std::thread([&] {
      const Hold::Request request{8501};
      proto::Empty reply{};
      late = aios_call_method(echo.get(), Hold::opcode, &request, sizeof request, &reply,
                              sizeof reply, 20 * ns_per_ms);
      for (std::uint64_t i = 0; i < 100; ++i)
        in_time = echo_once(echo.get(), i) == i ? AIOS_OK : late;
      aios_completion one{};
      std::size_t count = 0;
      completions = aios_tenant_completions(tenant.get(), &one, 1, 20 * ns_per_ms, &count);
    }).join();
  }
  CHECK(late == AIOS_TIMED_OUT);
  CHECK(in_time == AIOS_OK);
  CHECK(completions == AIOS_TIMED_OUT);
  proto::Empty reply{};
  CHECK(aios_call_result(others.get(), &reply, sizeof reply) == AIOS_BUSY);
  CHECK(release(echo.get(), 8500) == 1);
  aios_device device{};
  CHECK(aios_tenant_device(tenant.get(), 0, long_ns, &device) == AIOS_OK);
}

TEST_CASE("Attaching with too few descriptors is over a quota, and with enough it succeeds") {
  const std::string socket = the_instance().socket_path();
  aios_attach_options options{};
  options.socket_path = socket.c_str();
  int left = 0;
  for (aios_code code = AIOS_QUOTA; code != AIOS_OK; ++left) {
    aios_instance* instance = nullptr;
    {
      const FewDescriptors few(left);
      code = aios_attach(&options, &instance);
    }
    const Attached attached(instance);
    INFO(left, " left: ", aios_last_error());
    REQUIRE((code == AIOS_OK || code == AIOS_QUOTA));
  }
  CHECK(left > 3);
}

namespace {

struct Cancelled {
  aios_service* echo;
  aios_code code = AIOS_INTERNAL;
  static void* run(void* of) {
    auto& self = *static_cast<Cancelled*>(of);
    const Hold::Request request{9000};
    proto::Empty reply{};
    self.code = aios_call_method(self.echo, Hold::opcode, &request, sizeof request, &reply,
                                 sizeof reply, long_ns);
    ::pthread_testcancel();
    return nullptr;
  }
};

}  // namespace

TEST_CASE("A thread that is cancelled while it waits ends when its call has, and the host lives") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  const auto other = attach();
  const auto releaser = connect_echo(other.get());
  for (int round = 0; round < 20; ++round) {
    Cancelled cancelled{echo.get()};
    pthread_t thread{};
    REQUIRE(::pthread_create(&thread, nullptr, &Cancelled::run, &cancelled) == 0);
    // Before it waits or while it does.
    if (round % 2 == 0) REQUIRE(::pthread_cancel(thread) == 0);
    do {
      if (round % 2 == 1) REQUIRE(::pthread_cancel(thread) == 0);
    } while (release(releaser.get(), 9000) == 0);
    void* ended = nullptr;
    REQUIRE(::pthread_join(thread, &ended) == 0);
    CHECK(ended == PTHREAD_CANCELED);
    CHECK(cancelled.code == AIOS_OK);
    CHECK(echo_once(echo.get(), 1) == 1);
  }
}

TEST_CASE("The library starts no thread, leaks no descriptor and leaves signals alone") {
  struct sigaction before[NSIG] {};
  for (int i = 1; i < NSIG; ++i) ::sigaction(i, nullptr, &before[i]);
  { (void)the_instance(); }
  const std::size_t threads = numbers_in("/proc/self/task").size();
  {
    // A thread that has slept keeps what it sleeps with.
    const auto warm = attach();
    const auto echo = connect_echo(warm.get());
    const Hold::Request request{31};
    proto::Empty reply{};
    CHECK(aios_call_method(echo.get(), Hold::opcode, &request, sizeof request, &reply, sizeof reply,
                           10 * ns_per_ms) == AIOS_TIMED_OUT);
  }
  const std::set<int> descriptors = numbers_in("/proc/self/fd");
  {
    const auto instance = attach();
    const auto echo = connect_echo(instance.get());
    const auto region = create_region(instance.get(), 1 << 20);
    int fd = -1;
    int ready = 0;
    CHECK(echo_once(echo.get(), 1) == 1);
    ok(aios_poll_fd(instance.get(), &fd));
    ok(aios_arm(instance.get(), &ready));
    for (const int number : numbers_in("/proc/self/fd")) {
      const int flags = ::fcntl(number, F_GETFD);
      // The folder's own descriptor is closed again.
      CHECK((descriptors.contains(number) || flags < 0 || (flags & FD_CLOEXEC) != 0));
    }
    CHECK(numbers_in("/proc/self/task").size() == threads);
  }
  CHECK(numbers_in("/proc/self/fd").size() == descriptors.size());
  for (int i = 1; i < NSIG; ++i) {
    struct sigaction now {};
    ::sigaction(i, nullptr, &now);
    CHECK((now.sa_handler == before[i].sa_handler));
  }
}
