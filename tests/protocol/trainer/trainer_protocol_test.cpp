// aios-trainer at its port: a real kernel and trainer; the test plays supervisor and scheduler,
// also one that sends nonsense.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "abi/proto/trainer.hpp"
#include "abi/runtime/client.hpp"
#include "abi/runtime/kernel.hpp"
#include "services/scheduler/costs/trees_record.hpp"
#include "tests/protocol/kernel/harness.hpp"

namespace aios::scheduler::trainer {
namespace {

namespace wire = proto::trainer;
namespace pk = proto::kernel;

/// Training gets what nobody else on the machine wants.
constexpr std::uint64_t patience_ns = 300 * ns_per_s;

std::string from_environment(const char* variable) {
  const char* value = std::getenv(variable);
  REQUIRE_MESSAGE(value != nullptr, variable << " is not set; run this through meson test");
  return value;
}

class Rig {
 public:
  /// `arguments` of the program, each ended by a zero.
  explicit Rig(std::string_view arguments = {}) {
    kernel_ = *Kernel::attach(machine_.socket_path());
    root_ = kernel_->startup("root")->handle;
    port_ = kernel_->call<pk::PortCreate>({pk::Name::from("trainer")})->reply.port;
    pk::ProcessSpawn::Request request{};
    request.job = root_;
    request.name = pk::Name::from("trainer");
    request.image = decltype(request.image)::from(from_environment("AIOS_TEST_TRAINER"));
    // Unlike memcpy, this may be given none.
    std::copy(arguments.begin(), arguments.end(), request.arguments);
    request.handle_count = 1;
    request.handles[0] = {pk::Label::from("port"), port_, rights::accept | rights::info, 0};
    const auto spawned = kernel_->call<pk::ProcessSpawn>(request);
    REQUIRE(spawned);
    process_ = spawned->reply.process;
  }
  Kernel& kernel() { return *kernel_; }
  Handle port() const { return port_; }
  bool is_alive() { return kernel_->call<pk::ProcessInfo>({process_})->reply.exited == 0; }
  Region region(std::uint64_t bytes) { return *Region::create(*kernel_, bytes, "runs or trees"); }
  Region region(std::span<const std::byte> bytes) {
    Region made = region(std::max<std::size_t>(bytes.size(), 1));
    std::copy(bytes.begin(), bytes.end(), made.bytes().begin());
    return made;
  }

 private:
  aios::test::Machine machine_{"serve"};
  std::unique_ptr<Kernel> kernel_;
  Handle root_ = 0, port_ = 0, process_ = 0;
};

/// What is sent for a handle of a Train.
struct Sent {
  Handle handle;
  ObjectType type = ObjectType::region;
  std::uint32_t use = rights::map_read | rights::map_write;
};

class Caller {
 public:
  explicit Caller(Rig& rig)
      : client_(rig.kernel(), nullptr, rig.port(), wire::Protocol::version, "trainer") {}
  Result<wire::Train::Reply> train(Sent runs, Sent trees, std::uint64_t runs_bytes) {
    return client_.call_with_handles<wire::Train>(
        {0, 0, runs_bytes}, {to_send(runs), to_send(trees)},
        [](std::span<const Handle> numbers, wire::Train::Request& request) {
          request.runs = numbers[0];
          request.trees = numbers[1];
        },
        Deadline::after(patience_ns));
  }
  Client& client() { return client_; }

  static HandleToSend to_send(const Sent& sent) {
    return {sent.handle, sent.type, sent.use | rights::info, 0, false};
  }

 private:
  Client client_;
};

/// Times that jump with the size.
KeyRuns jumping_runs(std::size_t count, const std::string& function = "work") {
  KeyRuns key{{{1, 1000, function}, "cpu", false}, {}};
  std::mt19937_64 random(3);
  std::uniform_real_distribution<float> any(8, 20);
  for (std::size_t i = 0; i < count; ++i) {
    const float bytes = any(random), blocks = any(random) / 4;
    key.runs.push_back(
        {{bytes, blocks, bytes - 1, bytes, bytes - 2, 3}, 4 + bytes + (bytes > 14 ? 2.5F : 0), 15});
  }
  return key;
}

std::vector<KeyRuns> many_keys(std::size_t keys, std::size_t runs) {
  std::vector<KeyRuns> all;
  for (std::size_t i = 0; i < keys; ++i)
    all.push_back(jumping_runs(runs, "codelet " + std::to_string(i)));
  return all;
}

template <class T>
Code code_of(const Result<T>& result) {
  return result ? Code::ok : result.error().code();
}

/// It still does what it is for.
void check_trains(Rig& rig, Caller& caller) {
  const std::vector<std::byte> bytes = write_runs({jumping_runs(200)});
  const Region runs = rig.region(bytes), trees = rig.region(1 << 20);
  const auto done = caller.train({runs.handle(), ObjectType::region, rights::map_read},
                                 {trees.handle()}, bytes.size());
  REQUIRE_MESSAGE(done, done.error().to_string());
  CHECK(done->cpu_ns > 0);
  REQUIRE(done->trees_bytes <= trees.bytes().size());
  const auto trained = read_trained(trees.bytes().first(done->trees_bytes));
  REQUIRE_MESSAGE(trained, trained.error().to_string());
  REQUIRE(trained->size() == 1);
  CHECK(trained->front().key == jumping_runs(0).key);
  CHECK(trained->front().report.verdict == TreesVerdict::promoted);
  CHECK(trained->front().trees != nullptr);
}

}  // namespace

TEST_CASE("It says what it trains with, and trains") {
  Rig rig;
  Caller caller(rig);
  const auto library = caller.client().call<wire::Library>({}, Deadline::after(patience_ns));
  REQUIRE_MESSAGE(library, library.error().to_string());
  CHECK(library->text.view().starts_with("XGBoost "));
  check_trains(rig, caller);
}

TEST_CASE("Without the library it says so, whatever is asked") {
  using namespace std::string_view_literals;
  Rig rig("--library\0/nowhere/libxgboost.so\0"sv);
  Caller caller(rig);
  const auto library = caller.client().call<wire::Library>({}, Deadline::after(patience_ns));
  REQUIRE_FALSE(library);
  CHECK(library.error().code() == Code::not_supported);
  CHECK(library.error().message().find("/nowhere/libxgboost.so") != std::string::npos);
  const Region runs = rig.region(4096), trees = rig.region(4096);
  CHECK(code_of(caller.train({runs.handle()}, {trees.handle()}, 4096)) == Code::not_supported);
  CHECK(rig.is_alive());
}

TEST_CASE("Handles that are none, of something else or without a right are refused") {
  Rig rig;
  Caller caller(rig);
  const Region runs = rig.region(4096), trees = rig.region(4096);
  const auto by_number = [&](Handle first, Handle second) {
    return code_of(
        caller.client().call<wire::Train>({first, second, 1}, Deadline::after(patience_ns)));
  };
  CHECK(by_number(0, 0) == Code::bad_handle);
  CHECK(by_number(12345, 54321) == Code::bad_handle);
  // Its own: those that it was started with are nobody's to name.
  for (Handle own = 1; own < 16; ++own) CHECK(by_number(own, own) != Code::ok);
  const Sent port{rig.port(), ObjectType::port, rights::connect};
  CHECK(code_of(caller.train(port, {trees.handle()}, 1)) == Code::wrong_type);
  CHECK(code_of(caller.train({runs.handle()}, port, 1)) == Code::wrong_type);
  const Sent unreadable{runs.handle(), ObjectType::region, 0};
  const Sent unwritable{trees.handle(), ObjectType::region, rights::map_read};
  CHECK(code_of(caller.train(unreadable, {trees.handle()}, 1)) == Code::denied);
  CHECK(code_of(caller.train({runs.handle()}, unwritable, 1)) == Code::denied);
  check_trains(rig, caller);
}

TEST_CASE("Sizes that are none are refused") {
  Rig rig;
  Caller caller(rig);
  const Region runs = rig.region(4096), trees = rig.region(4096);
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, std::uint64_t{4097}, wire::max_runs_bytes + 1, ~std::uint64_t{0}})
    CHECK(code_of(caller.train({runs.handle()}, {trees.handle()}, bytes)) ==
          Code::invalid_argument);
  const Region large = rig.region(wire::max_trees_bytes + 4096);
  CHECK(code_of(caller.train({runs.handle()}, {large.handle()}, 4096)) == Code::invalid_argument);
  // What comes of it has no room.
  const std::vector<std::byte> bytes = write_runs(many_keys(100, 70));
  const Region many = rig.region(bytes);
  const auto done = caller.train({many.handle()}, {trees.handle()}, bytes.size());
  REQUIRE_FALSE(done);
  CHECK(done.error().code() == Code::too_large);
  CHECK(done.error().message().find("their region has 4096") != std::string::npos);
  check_trains(rig, caller);
}

TEST_CASE("Runs that make no sense are refused, and harm nothing") {
  Rig rig;
  Caller caller(rig);
  const Region trees = rig.region(1 << 16);
  const std::vector<std::byte> good = write_runs({jumping_runs(20)});
  const auto send = [&](std::span<const std::byte> bytes) {
    const Region runs = rig.region(bytes);
    return code_of(caller.train({runs.handle()}, {trees.handle()}, bytes.size()));
  };
  const auto is_refused = [](Code code) {
    return code == Code::corrupt || code == Code::version_mismatch;
  };
  for (std::size_t length = 1; length < good.size(); length += 1 + good.size() / 40)
    CHECK(is_refused(send(std::span(good).first(length))));
  std::mt19937_64 random(7);
  for (std::size_t i = 0; i < 100; ++i) {
    std::vector<std::byte> damaged = good;
    damaged[random() % damaged.size()] ^= std::byte{static_cast<unsigned char>(1 + random() % 255)};
    CHECK(is_refused(send(damaged)));
  }
  std::vector<std::byte> noise(1 << 16);
  for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
  CHECK(is_refused(send(noise)));
  CHECK(rig.is_alive());
  check_trains(rig, caller);
}

TEST_CASE("One training at a time; who leaves is not trained for any more") {
  Rig rig;
  Caller caller(rig);
  // Connected before the loop below listens: both hear the signals of one kernel connection.
  REQUIRE(caller.client().call<wire::Library>({}, Deadline::after(patience_ns)));
  const std::vector<std::byte> bytes = write_runs(many_keys(150, 512));
  REQUIRE(bytes.size() <= wire::max_runs_bytes);
  const Region runs = rig.region(bytes), trees = rig.region(wire::max_trees_bytes);
  {
    const auto loop = *EventLoop::create(&rig.kernel());
    Client other(rig.kernel(), loop.get(), rig.port(), wire::Protocol::version, "trainer");
    bool ended = false;
    other.start_with_handles<wire::Train>(
        {0, 0, bytes.size()}, {Caller::to_send({runs.handle()}), Caller::to_send({trees.handle()})},
        [](std::span<const Handle> numbers, wire::Train::Request& request) {
          request.runs = numbers[0];
          request.trees = numbers[1];
        },
        Deadline::after(patience_ns), [&](const Result<wire::Train::Reply>&) { ended = true; });
    // Behind it on its link: once this is answered the training has begun.
    bool begun = false;
    other.start<wire::Library>({}, Deadline::after(patience_ns),
                               [&](const Result<wire::Library::Reply>&) { begun = true; });
    for (const Deadline until = Deadline::after(patience_ns); !begun && !until.passed();)
      REQUIRE(loop->turn(Deadline::after(10 * ns_per_ms)));
    REQUIRE(begun);
    const std::vector<std::byte> few = write_runs({jumping_runs(8)});
    const Region small = rig.region(few), room = rig.region(4096);
    CHECK(code_of(caller.train({small.handle()}, {room.handle()}, few.size())) == Code::busy);
    CHECK_FALSE(ended);
  }
  // The other has left: what it wanted ends with the tree that is being made.
  const Deadline until = Deadline::after(patience_ns);
  const std::vector<std::byte> few = write_runs({jumping_runs(8)});
  const Region small = rig.region(few), room = rig.region(4096);
  Code next = Code::busy;
  while (next == Code::busy && !until.passed())
    next = code_of(caller.train({small.handle()}, {room.handle()}, few.size()));
  CHECK(next == Code::ok);
  check_trains(rig, caller);
}

}  // namespace aios::scheduler::trainer
