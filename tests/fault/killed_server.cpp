// Clients of a server that is killed again and again. Every call has a deadline of 2 s: nearly all
// return the correct answer, the rest a typed error, and none comes late. What a call changes is
// changed once: a rename or a remove that was done twice would find nothing the second time.
//
//   fault-killed-server [--server storage|echo] [--seconds N] [--every MS] [--clients N]
//
// Exit codes: 0 at least 95% of the calls were answered correctly and none wrongly, 1 otherwise.
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "abi/lib/storage_client.hpp"
#include "abi/proto/echo.hpp"
#include "tests/support/test_instance.hpp"

using namespace aios;

namespace {

constexpr std::uint64_t call_timeout_ns = 2 * ns_per_s;
/// A late answer would be one that no deadline ended; a slow machine is not late.
constexpr std::uint64_t most_call_ns = 2 * call_timeout_ns + 10 * ns_per_s;
constexpr double least_correct = 0.95;

constexpr const char* manifest = R"(
[instance]
restart = { count = 100000, window_ms = 1000 }

[server.storage]
binary = "aios-storage"
publish = true

[server.echo]
binary = "aios-echo"
publish = true
)";

struct Options {
  std::string server = "storage";
  std::uint64_t seconds = 60;
  std::uint64_t every_ms = 200;
  std::uint64_t clients = 4;
};

struct Counts {
  std::uint64_t correct = 0;
  std::uint64_t slowest_ns = 0;
  std::map<std::string, std::uint64_t> errors;  ///< typed, by name
  std::vector<std::string> breaches;

  void add(const Counts& other) {
    correct += other.correct;
    slowest_ns = std::max(slowest_ns, other.slowest_ns);
    for (const auto& [name, count] : other.errors) errors[name] += count;
    breaches.insert(breaches.end(), other.breaches.begin(), other.breaches.end());
  }
  std::uint64_t failed() const {
    std::uint64_t sum = 0;
    for (const auto& [name, count] : errors) sum += count;
    return sum;
  }
};

/// One program and its calls.
class Caller {
 public:
  Caller(test::Visitor& visitor, std::uint64_t number)
      : storage_(visitor.client<proto::storage::Protocol>().value()),
        echo_(visitor.client<proto::echo::Protocol>().value()),
        memory_(Region::create(visitor.kernel(), 2 * part_bytes, "caller").value()),
        folder_("caller/" + std::to_string(number) + "/"),
        random_(number) {}

  void use_echo() {
    proto::echo::Echo::Request request{};
    request.value = random_();
    const auto reply = timed([&] { return echo_->call<proto::echo::Echo>(request, deadline()); });
    if (reply && reply->value != request.value) breach("echo answered another value");
    count(reply);
  }

  /// An object's life: put, read, renamed, read, removed. What is not known is looked up.
  void use_storage() {
    const std::string first = folder_ + std::to_string(++objects_);
    const std::string second = first + "-renamed";
    const std::uint64_t size =
        random_() % 2 == 0 ? 1 + random_() % 4000 : 20'000 + random_() % 9000;
    fill(size);
    const auto put = timed([&] { return storage_.put(first, part(0, size), deadline()); });
    if (!known(put, first, true)) return;
    check_get(first, size);
    const auto renamed = timed([&] { return storage_.rename(first, second, deadline()); });
    if (!known(renamed, second, true)) return;
    check_get(second, size);
    const auto removed = timed([&] { return storage_.remove(second, deadline()); });
    (void)known(removed, second, false);
  }

  const Counts& counts() const { return counts_; }

 private:
  static constexpr std::uint64_t part_bytes = 64u << 10;
  static Deadline deadline() { return Deadline::after(call_timeout_ns); }

  void breach(std::string what) { counts_.breaches.push_back(std::move(what)); }

  template <class Call>
  auto timed(Call call) -> decltype(call()) {
    const std::uint64_t begin = now_ns();
    auto reply = call();
    const std::uint64_t took = now_ns() - begin;
    counts_.slowest_ns = std::max(counts_.slowest_ns, took);
    if (took > most_call_ns) breach("a call took " + std::to_string(took / ns_per_ms) + " ms");
    return reply;
  }

  template <class T>
  void count(const Result<T>& reply) {
    if (reply)
      ++counts_.correct;
    else
      ++counts_.errors[std::string(code_name(reply.error().code()))];
  }

  /// Counts a change and says whether it happened; if the answer does not tell, by a look at
  /// `name`, which exists then (or does not). False also when that cannot be found out.
  template <class T>
  bool known(const Result<T>& reply, const std::string& name, bool exists) {
    count(reply);
    if (reply) return true;
    switch (reply.error().code()) {
      case Code::timed_out:
      case Code::indeterminate:
        break;
      default:
        breach("a change of " + name + " ended with " + reply.error().to_string());
        return false;
    }
    const auto found = storage_.stat(name, test::patience());
    return found.has_value() == exists;
  }

  void check_get(const std::string& name, std::uint64_t size) {
    const auto got =
        timed([&] { return storage_.get(name, 0, 0, part(part_bytes, part_bytes), deadline()); });
    if (!got && got.error().code() == Code::not_found) breach(name + " is lost");
    if (got && (got->length != size ||
                std::memcmp(memory_.data(), memory_.data() + part_bytes, size) != 0))
      breach(name + " has other bytes than were put");
    count(got);
  }

  void fill(std::uint64_t size) {
    for (std::uint64_t at = 0; at < size; at += 8) {
      const std::uint64_t word = random_();
      std::memcpy(memory_.data() + at, &word, sizeof word);
    }
  }
  StorageClient::Part part(std::uint64_t offset, std::uint64_t length) const {
    return {memory_, true, offset, length};
  }

  StorageClient storage_;
  std::unique_ptr<Client> echo_;
  Region memory_;
  std::string folder_;
  std::mt19937_64 random_;
  std::uint64_t objects_ = 0;
  Counts counts_;
};

/// Kills the server each time it has lived for `every_ms`; how often it died.
std::uint64_t kill_until(test::TestInstance& instance, const Options& options, Deadline end) {
  std::uint64_t kills = 0;
  while (!end.passed()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(options.every_ms));
    const auto server = instance.server(options.server);
    if (server && server->pid != 0 && ::kill(static_cast<pid_t>(server->pid), SIGKILL) == 0)
      ++kills;
  }
  return kills;
}

Result<int> run(const Options& options) {
  const auto instance = TRY(test::TestInstance::boot_running(manifest));
  std::vector<std::unique_ptr<test::Visitor>> visitors;
  std::vector<std::unique_ptr<Caller>> callers;
  for (std::uint64_t i = 0; i < options.clients; ++i) {
    visitors.push_back(TRY(instance->attach()));
    callers.push_back(std::make_unique<Caller>(*visitors.back(), i + 1));
  }
  const Deadline end = Deadline::after(options.seconds * ns_per_s);
  std::vector<std::jthread> threads;
  for (const auto& caller : callers)
    threads.emplace_back([&, caller = caller.get()] {
      while (!end.passed()) options.server == "echo" ? caller->use_echo() : caller->use_storage();
    });
  const std::uint64_t kills = kill_until(*instance, options, end);
  threads.clear();

  Counts all;
  for (const auto& caller : callers) all.add(caller->counts());
  const double share =
      double(all.correct) / double(std::max<std::uint64_t>(all.correct + all.failed(), 1));
  std::printf("%s: %lu kills, %lu calls, %.2f%% answered correctly, slowest %lu ms",
              options.server.c_str(), kills, all.correct + all.failed(), 100 * share,
              all.slowest_ns / ns_per_ms);
  for (const auto& [name, count] : all.errors) std::printf(", %lu %s", count, name.c_str());
  std::printf("\n");
  for (const std::string& breach : all.breaches) std::printf("BREACH: %s\n", breach.c_str());
  const bool enough = share >= least_correct && kills > options.seconds;
  if (!enough) std::printf("too few correct answers, or too few kills\n");
  return enough && all.breaches.empty() ? 0 : 1;
}

Options read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--server") options.server = argv[i + 1];
    if (name == "--seconds") options.seconds = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--every") options.every_ms = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--clients") options.clients = std::strtoull(argv[i + 1], nullptr, 10);
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Result<int> result = run(read_options(argc, argv));
  if (result) return *result;
  std::fprintf(stderr, "cannot run: %s\n", result.error().to_string().c_str());
  return 1;
}
