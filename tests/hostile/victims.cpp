#include "tests/hostile/victims.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <random>
#include <sstream>

#include "abi/lib/mapreduce/client.hpp"
#include "abi/lib/task_client.hpp"
#include "abi/proto/echo.hpp"
#include "abi/proto/storage.hpp"

namespace aios::hostile {

namespace {

namespace fs = std::filesystem;
namespace storage = proto::storage;
using test::patience;
using test::Visitor;

/// No victim needs more of the machine than it takes to notice what goes wrong.
constexpr std::uint64_t pause_ns = 200 * ns_per_us;

void rest(std::uint64_t duration_ns = pause_ns) {
  const timespec pause{0, static_cast<long>(duration_ns)};
  ::nanosleep(&pause, nullptr);
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

Result<std::unique_ptr<Visitor>> attach(const VictimSetup& setup, const std::string& job) {
  return setup.instance.attach({.job_name = job, .quota = {}});
}

// ---- echo -----------------------------------------------------------------------------------

struct EchoVictim {
  std::unique_ptr<Visitor> visitor;
  std::unique_ptr<Client> client;
  Region region;
  std::uint64_t sum = 0;

  Result<void> operator()(std::uint64_t round) {
    proto::echo::Echo::Request request{};
    request.value = round;
    std::mt19937_64 random(round);
    for (auto& byte : request.bytes) byte = static_cast<std::uint8_t>(random());
    const auto reply = TRY(client->call<proto::echo::Echo>(request, patience()));
    if (std::memcmp(&reply, &request, sizeof reply) != 0)
      return error(Code::corrupt, "another answer than what was sent");
    if (round % 16 == 0) {
      const auto summed = TRY(client->call_with_handles<proto::echo::Sum>(
          {0}, {{region.handle(), ObjectType::region, rights::map_read, 0, false}},
          [](std::span<const Handle> numbers, auto& r) { r.region = numbers[0]; }, patience()));
      if (summed.sum != sum) return error(Code::corrupt, "another sum than the region's");
    }
    rest();
    return {};
  }
};

Result<Victim::Body> make_echo(const VictimSetup& setup) {
  auto victim = std::make_shared<EchoVictim>();
  victim->visitor = TRY(attach(setup, "victim-echo"));
  victim->client = TRY(victim->visitor->client<proto::echo::Protocol>());
  victim->region = TRY(Region::create(victim->visitor->kernel(), 8192, "victim"));
  auto* words = reinterpret_cast<std::uint64_t*>(victim->region.data());
  std::iota(words, words + victim->region.size() / sizeof *words, 1000);
  victim->sum =
      std::accumulate(words, words + victim->region.size() / sizeof *words, std::uint64_t{0});
  return [victim](std::uint64_t round) { return (*victim)(round); };
}

// ---- storage --------------------------------------------------------------------------------

struct StorageVictim {
  static constexpr std::uint64_t object_bytes = 20'000;
  std::unique_ptr<Visitor> visitor;
  std::unique_ptr<Client> client;
  Region region;
  std::uint32_t attached = 0;

  Result<void> operator()(std::uint64_t round) {
    const auto name = storage::ObjectName::from("victim/" + std::to_string(round % 8));
    std::mt19937_64 random(round);
    const auto source = region.bytes().first(object_bytes);
    const auto target = region.bytes().subspan(32768, object_bytes);
    for (std::byte& byte : source) byte = static_cast<std::byte>(random());
    std::ranges::fill(target, std::byte{0});
    const auto put =
        TRY(client->call<storage::Put>({0, object_bytes, attached, 0, name}, patience()));
    const auto got = TRY(client->call<storage::Get>(
        {32768, object_bytes, 0, put.version, attached, 0, name}, patience()));
    if (got.length != object_bytes || got.info.checksum != put.checksum ||
        std::memcmp(source.data(), target.data(), object_bytes) != 0)
      return error(Code::corrupt, "another object than the one that was put");
    for (int i = 0; i < 20; ++i) {
      const auto stat = TRY(client->call<storage::Stat>({name}, patience()));
      if (stat.version != put.version) return error(Code::corrupt, "another version");
      rest();
    }
    return {};
  }
};

Result<Victim::Body> make_storage(const VictimSetup& setup) {
  auto victim = std::make_shared<StorageVictim>();
  victim->visitor = TRY(attach(setup, "victim-storage"));
  victim->client = TRY(victim->visitor->client<storage::Protocol>());
  victim->region = TRY(Region::create(victim->visitor->kernel(), 65536, "victim"));
  constexpr std::uint32_t use = rights::map_read | rights::map_write;
  victim->attached =
      TRY(victim->client->call_with_handles<storage::AttachRegion>(
              {0, 1}, {{victim->region.handle(), ObjectType::region, use, 0, false}},
              [](std::span<const Handle> numbers, auto& r) { r.region = numbers[0]; }, patience()))
          .region;
  return [victim](std::uint64_t round) { return (*victim)(round); };
}

// ---- scheduler ------------------------------------------------------------------------------

struct TaskVictim {
  std::unique_ptr<Visitor> visitor;
  std::unique_ptr<TaskLink> link;
  std::unique_ptr<TaskTenant> tenant;
  std::uint32_t codelet = 0;

  Result<void> operator()(std::uint64_t round) {
    auto record = make_task(round + 1, codelet);
    record.grid[0] = 1 + static_cast<std::uint32_t>(round % 7);
    record.grid[1] = 3;
    TRY(wait_for<void>(*link, [&](auto done) {
      tenant->submit({&record, 1}, patience(), std::move(done));
    }));
    const auto completions = TRY(wait_for<TaskTenant::Completions>(
        *link, [&](auto done) { tenant->completions(patience(), std::move(done)); }));
    const auto& done = completions.at(0);
    if (completions.size() != 1 || done.tag != record.tag || done.status != 0 ||
        done.result[0] != record.grid[0] * record.grid[1])
      return error(Code::corrupt, "another result than the task's");
    rest();
    return {};
  }
};

Result<Victim::Body> make_tasks(const VictimSetup& setup) {
  auto victim = std::make_shared<TaskVictim>();
  victim->visitor = TRY(attach(setup, "victim-tasks"));
  Kernel& kernel = victim->visitor->kernel();
  victim->link =
      std::make_unique<TaskLink>(kernel, nullptr, TRY(kernel.startup("scheduler")).handle);
  victim->tenant = std::make_unique<TaskTenant>(*victim->link);
  TRY(wait_for<void>(*victim->link, [&](auto done) {
    victim->tenant->open(kernel.job(), patience(), std::move(done));
  }));
  const std::string module = read_file(setup.task_module);
  const Region region = TRY(module_region(kernel, std::as_bytes(std::span(module))));
  victim->codelet = TRY(wait_for<std::uint32_t>(*victim->link, [&](auto done) {
    victim->tenant->register_codelet(region.handle(), 0, module.size(), "count", "count",
                                     proto::driver::backend::cpu, patience(), std::move(done));
  }));
  return [victim](std::uint64_t round) { return (*victim)(round); };
}

// ---- mapreduce ------------------------------------------------------------------------------

/// Whole jobs, each attached anew, as a program that runs one does.
Result<Victim::Body> make_jobs(const VictimSetup& setup) {
  const fs::path folder = fs::path(setup.folder) / "words";
  fs::create_directories(folder);
  std::map<std::string, std::uint64_t> counts;
  std::ofstream input(folder / "input");
  std::mt19937 random(5);
  for (int i = 0; i < 5000; ++i) {
    const std::string word = "w" + std::to_string(random() % 300);
    input << word << (i % 9 == 8 ? "\n" : " ");
    ++counts[word];
  }
  input << "\n";
  std::vector<std::string> wanted;
  for (const auto& [word, count] : counts) wanted.push_back(word + "\t" + std::to_string(count));
  std::ranges::sort(wanted);
  return [setup, folder, wanted](std::uint64_t) -> Result<void> {
    const fs::path output = folder / "output";
    fs::remove_all(output);
    const auto visitor = TRY(attach(setup, "victim-words"));
    Kernel& kernel = visitor->kernel();
    mapreduce_client::Options options{.label = "victim",
                                      .module_path = setup.wordcount_module,
                                      .arguments = {},
                                      .inputs = {folder / "input"},
                                      .output = output,
                                      .memory_bytes = 32u << 20};
    TRY(mapreduce_client::run(kernel, TRY(kernel.startup("mapreduce")).handle, options, {}));
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(output)) {
      if (!entry.path().filename().string().starts_with("part-")) continue;
      std::istringstream part(read_file(entry.path()));
      for (std::string line; std::getline(part, line);) found.push_back(line);
    }
    std::ranges::sort(found);
    if (found != wanted) return error(Code::corrupt, "other counts than the text's");
    rest(200 * ns_per_ms);
    return {};
  };
}

// ---- the supervisor -------------------------------------------------------------------------

Result<Victim::Body> make_listing(const VictimSetup& setup) {
  std::shared_ptr<Visitor> visitor = TRY(attach(setup, "victim-listing"));
  std::shared_ptr<Client> client = TRY(visitor->client<proto::supervisor::Protocol>());
  return [visitor, client](std::uint64_t round) -> Result<void> {
    const auto reply = TRY(client->call<proto::supervisor::Server>({round % 5}, patience()));
    if (reply.count != 5 || reply.restarts != 0 || reply.server.view().empty())
      return error(Code::corrupt, "another record than the server's");
    rest(ns_per_ms);
    return {};
  };
}

// ---- the prey -------------------------------------------------------------------------------

/// Calls a server that lies: each call has an end soon after its deadline, whatever the server did.
Result<Victim::Body> make_prey(const VictimSetup& setup) {
  return [setup](std::uint64_t round) -> Result<void> {
    const auto visitor = TRY(attach(setup, "prey"));
    const auto client = visitor->client("evil", 1);
    if (!client) {
      // Between two hostile servers there is none.
      rest(5 * ns_per_ms);
      return {};
    }
    const std::size_t calls = round % 3 == 0 ? 150 : 4;
    std::size_t ended = 0;
    for (std::size_t i = 0; i < calls; ++i) {
      proto::echo::Echo::Request request{};
      (*client)->start<proto::echo::Echo>(request, Deadline::after(60 * ns_per_ms),
                                          [&ended](const auto&) { ++ended; });
    }
    const Deadline end = patience();
    while (ended < calls && !end.passed())
      if (!(*client)->work() && ended < calls) (*client)->wait(end);
    if (ended < calls) return error(Code::timed_out, "a call of a hostile server has no end");
    return {};
  };
}

}  // namespace

Victim::Victim(std::string name, Body body) : name_(std::move(name)) {
  thread_ = std::thread([this, body = std::move(body)] { run(body); });
}

void Victim::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    paused_ = false;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Victim::pause() {
  std::unique_lock lock(mutex_);
  paused_ = true;
  changed_.wait(lock, [this] { return resting_ || failed_.load(); });
}

void Victim::resume() {
  {
    const std::lock_guard lock(mutex_);
    paused_ = false;
  }
  changed_.notify_all();
}

/// Between rounds. False when it is to end.
bool Victim::go_on() {
  std::unique_lock lock(mutex_);
  resting_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !paused_; });
  resting_ = false;
  return !stopping_;
}

void Victim::run(const Body& body) {
  while (go_on()) {
    const Result<void> done = body(rounds_.load());
    if (!done) {
      failure_ = done.error().to_string();
      const std::lock_guard lock(mutex_);
      failed_ = true;
      changed_.notify_all();
      return;
    }
    ++rounds_;
  }
}

Result<std::vector<std::unique_ptr<Victim>>> start_victims(const VictimSetup& setup) {
  std::vector<std::unique_ptr<Victim>> victims;
  victims.push_back(std::make_unique<Victim>("echo", TRY(make_echo(setup))));
  victims.push_back(std::make_unique<Victim>("storage", TRY(make_storage(setup))));
  victims.push_back(std::make_unique<Victim>("scheduler", TRY(make_tasks(setup))));
  victims.push_back(std::make_unique<Victim>("mapreduce", TRY(make_jobs(setup))));
  victims.push_back(std::make_unique<Victim>("supervisor", TRY(make_listing(setup))));
  victims.push_back(std::make_unique<Victim>("prey", TRY(make_prey(setup))));
  return victims;
}

}  // namespace aios::hostile
