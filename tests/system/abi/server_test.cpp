// Serving under a label, and regions that travel with calls.
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "tests/system/abi/fixture.hpp"

using namespace aios;
using namespace aios::test;

namespace {

constexpr std::uint16_t shout = 1;

struct Word {
  std::uint64_t value;
};

/// Serves until a request of opcode 0xff has come, on a thread that ends with this.
class Serving {
 public:
  using Answer = std::function<aios_code(aios_request*)>;
  Serving(const char* label, Answer answer, std::uint64_t version = 1)
      : instance_(attach()), server_(serve(instance_.get(), label, version)) {
    thread_ = std::thread([this, answer = std::move(answer)] {
      for (;;) {
        aios_request* request = nullptr;
        if (aios_server_next(server_.get(), long_ns, &request) != AIOS_OK) return;
        if (aios_request_opcode(request) == 0xff) {
          (void)aios_request_reply(request, nullptr, 0);
          return;
        }
        last = answer(request);
      }
    });
    client = attach();
    service = connect(client.get(), label, version);
  }
  ~Serving() {
    (void)aios_call_method(service.get(), 0xff, nullptr, 0, nullptr, 0, long_ns);
    thread_.join();
  }
  aios_code call(std::uint64_t value, std::uint64_t& out) {
    const Word request{value};
    Word reply{};
    const aios_code code = aios_call_method(service.get(), shout, &request, sizeof request, &reply,
                                            sizeof reply, long_ns);
    out = reply.value;
    return code;
  }

  std::atomic<aios_code> last = AIOS_OK;  ///< what answering came to

 private:
  Attached instance_;
  Owned<aios_server> server_;
  std::thread thread_;

 public:
  Attached client;
  Owned<aios_service> service;
};

Word word_of(const aios_request* request) {
  Word word{};
  std::size_t bytes = 0;
  const void* data = aios_request_data(request, &bytes);
  if (bytes == sizeof word) std::memcpy(&word, data, sizeof word);
  return word;
}

}  // namespace

TEST_CASE("A program answers another one's calls, and knows who asks") {
  Serving serving("adder", [](aios_request* request) {
    aios_peer peer{};
    if (aios_request_peer(request, &peer) != AIOS_OK || peer.uid != ::getuid() ||
        peer.process_id == 0 || peer.protocol_version != 1)
      return aios_request_fail(request, AIOS_INTERNAL, "the peer is somebody else");
    const Word reply{word_of(request).value + 1};
    return aios_request_reply(request, &reply, sizeof reply);
  });
  for (std::uint64_t i = 0; i < 500; ++i) {
    std::uint64_t out = 0;
    const aios_code code = serving.call(i, out);
    if (code != AIOS_OK) FAIL(aios_last_error());
    REQUIRE(out == i + 1);
  }
}

TEST_CASE("An error that a server answers reaches the caller with its text") {
  Serving serving("refuser", [](aios_request* request) {
    return aios_request_fail(request, AIOS_DENIED, "not for you");
  });
  std::uint64_t out = 0;
  CHECK(serving.call(1, out) == AIOS_DENIED);
  CHECK(std::string(aios_last_error()) == "not for you");
}

TEST_CASE("A call that its server answered busy is done, unlike one under way") {
  const auto owner = attach();
  const auto server = serve(owner.get(), "busy");
  const auto client = attach();
  const auto service = connect(client.get(), "busy", 1);
  const Word word{};
  aios_call* raw = nullptr;
  ok(aios_call_start(service.get(), shout, &word, sizeof word, long_ns, &raw));
  const Owned<aios_call> call(raw);
  Word reply{};
  int done = 1;
  aios_request* request = nullptr;
  while (aios_server_next(server.get(), ns_per_ms, &request) == AIOS_TIMED_OUT) {
    ok(aios_call_is_done(raw, &done));
    CHECK(done == 0);
    CHECK(aios_call_result(raw, &reply, sizeof reply) == AIOS_BUSY);
  }
  ok(aios_request_fail(request, AIOS_BUSY, "come back later"));
  while (done == 0) ok(aios_call_is_done(raw, &done));
  CHECK(aios_call_result(raw, &reply, sizeof reply) == AIOS_BUSY);
  CHECK(std::string(aios_last_error()) == "come back later");
  CHECK(aios_call_is_done(raw, nullptr) == AIOS_INVALID_ARGUMENT);
}

TEST_CASE("A reply that is too large is an error on both sides") {
  Serving serving("boaster", [](aios_request* request) {
    const char much[500] = {};
    return aios_request_reply(request, much, sizeof much);
  });
  std::uint64_t out = 0;
  CHECK(serving.call(1, out) == AIOS_INTERNAL);
  CHECK(TestInstance::wait_until([&] { return serving.last == AIOS_TOO_LARGE; }));
}

TEST_CASE("A client of another version is refused by the library") {
  Serving serving(
      "version-two", [](aios_request* request) { return aios_request_reply(request, nullptr, 0); },
      2);
  const auto service = connect(serving.client.get(), "version-two", 1);
  CHECK(aios_call_method(service.get(), shout, nullptr, 0, nullptr, 0, long_ns) ==
        AIOS_VERSION_MISMATCH);
}

TEST_CASE("A region granted with a call is read by the server, once, and by it alone") {
  Serving serving("reader", [](aios_request* request) {
    const std::uint64_t handle = word_of(request).value;
    aios_region* region = nullptr;
    aios_region* again = nullptr;
    if (const aios_code code = aios_request_region(request, handle, AIOS_GRANT_WRITE, &region);
        code != AIOS_DENIED)
      return aios_request_fail(request, code != AIOS_OK ? code : AIOS_INTERNAL, "not denied");
    if (const aios_code code = aios_request_region(request, handle, AIOS_GRANT_READ, &region);
        code != AIOS_OK)
      return aios_request_fail(request, code, "cannot receive");
    if (aios_request_region(request, handle, AIOS_GRANT_READ, &again) != AIOS_BAD_HANDLE)
      return aios_request_fail(request, AIOS_INTERNAL, "it was received twice");
    Word reply{};
    std::memcpy(&reply, aios_region_data(region), sizeof reply);
    if (aios_region_is_writable(region) != 0) reply.value = 0;
    aios_region_close(region);
    return aios_request_reply(request, &reply, sizeof reply);
  });
  const auto region = create_region(serving.client.get(), 1 << 16);
  const std::uint64_t secret = 0x5eed;
  std::memcpy(aios_region_data(region.get()), &secret, sizeof secret);
  for (int round = 0; round < 3; ++round) {
    std::uint64_t handle = 0;
    std::uint64_t out = 0;
    ok(aios_grant(serving.service.get(), region.get(), AIOS_GRANT_READ, long_ns, &handle));
    ok(serving.call(handle, out));
    CHECK(out == secret);
  }
  std::uint64_t out = 0;
  CHECK(serving.call(0, out) == AIOS_BAD_HANDLE);
  CHECK(serving.call(~0ull, out) == AIOS_BAD_HANDLE);
  std::uint64_t handle = 0;
  CHECK(aios_grant(serving.service.get(), region.get(), 4, long_ns, &handle) ==
        AIOS_INVALID_ARGUMENT);
}

TEST_CASE("Grants that a server never receives use its places up, and end with the connection") {
  const auto instance = attach();
  const auto region = create_region(instance.get(), 4096);
  auto echo = connect_echo(instance.get());
  std::uint64_t handle = 0;
  aios_code code = AIOS_OK;
  for (int i = 0; i < 4096 && code == AIOS_OK; ++i)
    code = aios_grant(echo.get(), region.get(), AIOS_GRANT_READ, long_ns, &handle);
  CHECK(code == AIOS_QUOTA);
  CHECK(std::string(aios_last_error()).find("grant a region once") != std::string::npos);
  echo = connect_echo(instance.get());
  const auto grant_again = [&] {
    return aios_grant(echo.get(), region.get(), AIOS_GRANT_READ, long_ns, &handle);
  };
  // The server closes its side when it gets to it.
  CHECK(TestInstance::wait_until([&] { return grant_again() == AIOS_OK; }));
}

TEST_CASE("A region that a server grants with its reply is shared with the client") {
  aios_region* kept = nullptr;
  Serving serving("giver", [&](aios_request* request) {
    Word reply{};
    const aios_code code = aios_request_grant(request, kept, AIOS_GRANT_WRITE, &reply.value);
    if (code != AIOS_OK) return aios_request_fail(request, code, aios_last_error());
    return aios_request_reply(request, &reply, sizeof reply);
  });
  // Of another attachment than the server.
  const auto foreign = create_region(serving.client.get(), 4096);
  kept = foreign.get();
  std::uint64_t handle = 0;
  CHECK(serving.call(0, handle) == AIOS_INVALID_ARGUMENT);

  const auto owner = attach();
  const auto server = serve(owner.get(), "giver-two");
  const auto region = create_region(owner.get(), 4096);
  const auto client = attach();
  const auto service = connect(client.get(), "giver-two", 1);
  const Word nothing{};
  aios_call* call = nullptr;
  ok(aios_call_start(service.get(), shout, &nothing, sizeof nothing, long_ns, &call));
  const Owned<aios_call> owned(call);
  aios_request* request = nullptr;
  while (aios_server_next(server.get(), ns_per_ms, &request) == AIOS_TIMED_OUT) {
    proto::Empty reply{};
    (void)aios_call_result(call, &reply, sizeof reply);
  }
  Word answer{};
  ok(aios_request_grant(request, region.get(), AIOS_GRANT_WRITE, &answer.value));
  ok(aios_request_reply(request, &answer, sizeof answer));
  auto item = wait_item(call);
  ok(aios_wait(&item, 1, long_ns));
  ok(aios_call_result(call, &answer, sizeof answer));
  aios_region* received = nullptr;
  ok(aios_region_receive(service.get(), answer.value, AIOS_GRANT_WRITE, &received));
  const Owned<aios_region> mine(received);
  std::memcpy(aios_region_data(received), "from the client", 16);
  CHECK(std::strcmp(static_cast<char*>(aios_region_data(region.get())), "from the client") == 0);
  CHECK(aios_region_receive(service.get(), answer.value, AIOS_GRANT_READ, &received) ==
        AIOS_BAD_HANDLE);
  CHECK(aios_region_receive(service.get(), 12345, AIOS_GRANT_READ, &received) == AIOS_BAD_HANDLE);
}

TEST_CASE("Waiting for a server is ready when a request is, and times out when none is") {
  const auto owner = attach();
  const auto server = serve(owner.get(), "waiter");
  aios_wait_item item{};
  item.kind = AIOS_WAIT_SERVER;
  item.what.server = server.get();
  aios_request* request = nullptr;
  CHECK(aios_wait(&item, 1, 5 * ns_per_ms) == AIOS_TIMED_OUT);
  CHECK(aios_server_next(server.get(), 0, &request) == AIOS_TIMED_OUT);
  const auto client = attach();
  const auto service = connect(client.get(), "waiter", 1);
  std::thread caller([&] {
    const Word word{7};
    Word reply{};
    (void)aios_call_method(service.get(), shout, &word, sizeof word, &reply, sizeof reply, long_ns);
  });
  ok(aios_wait(&item, 1, long_ns));
  ok(aios_server_next(server.get(), 0, &request));
  CHECK(word_of(request).value == 7);
  ok(aios_request_reply(request, aios_request_data(request, nullptr), sizeof(Word)));
  caller.join();
}

TEST_CASE("A connection that is refused for want of links is accepted when there is one again") {
  const auto job = the_instance().attach({.job_name = "narrow", .quota = {.links = 2}});
  REQUIRE(job);
  const auto owner = attach("narrow");
  const auto server = serve(owner.get(), "patient");
  const auto client = attach("narrow");
  auto echo = connect_echo(client.get());
  CHECK(echo_once(echo.get(), 1) == 1);
  const auto service = connect(client.get(), "patient", 1);
  // Has the last link of the job. The server's end would be one more.
  const Word word{9};
  aios_call* made = nullptr;
  ok(aios_call_start(service.get(), shout, &word, sizeof word, long_ns, &made));
  const Owned<aios_call> call(made);
  std::thread caller([&] {
    auto item = wait_item(made);
    (void)aios_wait(&item, 1, long_ns);
  });
  int fd = -1;
  ok(aios_poll_fd(owner.get(), &fd));
  aios_request* request = nullptr;
  for (;;) {
    ok(aios_dispatch(owner.get()));
    if (aios_server_next(server.get(), 0, &request) == AIOS_OK) break;
    int ready = 0;
    ok(aios_arm(owner.get(), &ready));
    if (ready != 0) continue;
    // Nothing tells the server of it.
    echo.reset();
    pollfd readable{fd, POLLIN, 0};
    REQUIRE(::poll(&readable, 1, static_cast<int>(patience_ns / ns_per_ms)) == 1);
  }
  CHECK(echo == nullptr);
  CHECK(word_of(request).value == 9);
  ok(aios_request_reply(request, &word, sizeof word));
  caller.join();
}

TEST_CASE("Answering after the client or the server went is peer closed and frees the request") {
  const auto owner = attach();
  auto server = serve(owner.get(), "forgotten");
  auto client = attach();
  auto service = connect(client.get(), "forgotten", 1);
  aios_request* requests[2] = {};
  for (aios_request*& request : requests) {
    const Word word{};
    aios_call* call = nullptr;
    ok(aios_call_start(service.get(), shout, &word, sizeof word, long_ns, &call));
    const Owned<aios_call> owned(call);
    while (aios_server_next(server.get(), ns_per_ms, &request) == AIOS_TIMED_OUT) {
      proto::Empty reply{};
      (void)aios_call_result(call, &reply, sizeof reply);
    }
  }
  service.reset();
  client.reset();
  const Word word{};
  CHECK(TestInstance::wait_until([&] {
    aios_request* none = nullptr;
    (void)aios_server_next(server.get(), 0, &none);
    aios_wait_item item{};
    item.kind = AIOS_WAIT_SERVER;
    item.what.server = server.get();
    (void)aios_wait(&item, 1, ns_per_ms);
    return true;
  }));
  // The kernel has marked the link: the next answer finds nobody, now or after one that is in time.
  aios_code code = aios_request_reply(requests[0], &word, sizeof word);
  CHECK((code == AIOS_PEER_CLOSED || code == AIOS_OK));
  server.reset();
  CHECK(aios_request_reply(requests[1], &word, sizeof word) == AIOS_PEER_CLOSED);
  CHECK(aios_request_reply(nullptr, &word, sizeof word) == AIOS_INVALID_ARGUMENT);
}

TEST_CASE("A label of the instance's or of a kept region cannot be served") {
  const auto owner = attach();
  aios_server* server = nullptr;
  CHECK(aios_server_create(owner.get(), "storage", 1, &server) == AIOS_ALREADY_EXISTS);
  CHECK(aios_server_create(owner.get(), "with blanks", 1, &server) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_server_create(owner.get(), "..", 1, &server) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_server_create(owner.get(), "", 1, &server) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_server_create(owner.get(), std::string(32, 'a').c_str(), 1, &server) ==
        AIOS_INVALID_ARGUMENT);
  const auto region = create_region(owner.get(), 4096);
  ok(aios_region_keep(region.get(), "a-region", AIOS_GRANT_READ));
  const auto later = attach();
  CHECK(aios_server_create(later.get(), "a-region", 1, &server) == AIOS_ALREADY_EXISTS);
  ok(aios_forget(owner.get(), "a-region"));
}

TEST_CASE("A label that a living program serves is refused to others and stays its own") {
  const std::string longest(31, 'l');
  for (const char* label : {"single", longest.c_str()}) {
    const auto early = attach();
    const auto owner = attach();
    auto server = serve(owner.get(), label);
    const auto late = attach();
    aios_server* second = nullptr;
    // Those that attached before it was kept see no label, those that attached after it its port.
    CHECK(aios_server_create(early.get(), label, 1, &second) == AIOS_ALREADY_EXISTS);
    CHECK(aios_server_create(late.get(), label, 1, &second) == AIOS_ALREADY_EXISTS);
    CHECK(std::string(aios_last_error()).find(label) != std::string::npos);
    CHECK(aios_server_create(owner.get(), label, 1, &second) == AIOS_ALREADY_EXISTS);
    const auto client = attach();
    const auto service = connect(client.get(), label, 1);
    std::thread caller([&] {
      const Word word{7};
      Word reply{};
      CHECK(aios_call_method(service.get(), shout, &word, sizeof word, &reply, sizeof reply,
                             long_ns) == AIOS_OK);
    });
    aios_request* request = nullptr;
    ok(aios_server_next(server.get(), long_ns, &request));
    ok(aios_request_reply(request, aios_request_data(request, nullptr), sizeof(Word)));
    caller.join();
    // In another job it is another label.
    const auto elsewhere = attach("elsewhere");
    const auto its_own = serve(elsewhere.get(), label);
    server.reset();
    serve(early.get(), label);
    serve(late.get(), label);
  }
}

TEST_CASE("A server that dies is succeeded under its label, and its clients find the successor") {
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const auto keeper = attach();
  (void)the_instance();
  const pid_t pid = ::fork();
  if (pid == 0) {
    const auto instance = attach();
    const auto server = serve(instance.get(), "mortal");
    char byte = 1;
    (void)!::write(ready[1], &byte, 1);
    for (;;) {
      aios_request* request = nullptr;
      if (aios_server_next(server.get(), long_ns, &request) != AIOS_OK) ::_exit(1);
      if (word_of(request).value == 0) ::_exit(0);
      (void)aios_request_reply(request, aios_request_data(request, nullptr), sizeof(Word));
    }
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  const auto client = attach();
  const auto service = connect(client.get(), "mortal", 1);
  Word word{5};
  Word reply{};
  ok(aios_call_method(service.get(), shout, &word, sizeof word, &reply, sizeof reply, long_ns));
  word.value = 0;
  CHECK(aios_call_method(service.get(), shout, &word, sizeof word, &reply, sizeof reply, long_ns) ==
        AIOS_PEER_CLOSED);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  const auto successor = attach();
  const auto server = serve(successor.get(), "mortal");
  std::thread caller([&] {
    Word again{6};
    (void)aios_call_method(service.get(), shout, &again, sizeof again, &reply, sizeof reply,
                           long_ns);
  });
  aios_request* request = nullptr;
  ok(aios_server_next(server.get(), long_ns, &request));
  CHECK(word_of(request).value == 6);
  ok(aios_request_reply(request, aios_request_data(request, nullptr), sizeof(Word)));
  caller.join();
  ::close(ready[0]);
  ::close(ready[1]);
}
