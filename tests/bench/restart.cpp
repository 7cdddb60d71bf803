// restart-bench: how long a system of all servers is without one of them. Kills a server and calls
// it until it answers; boots the system and waits until every server does.
//
//   restart-bench [--kills N] [--boots N] [--objects N] [--json]
//
// Measured from just before the SIGKILL to the answer of a null call by the next life, over the
// same link client that any program has; and from just before the kernel's fork to the answer of
// wait_running, which says that every server answered. Exit codes: 0 every median is within its
// target, 1 one is not, or it cannot be measured.
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "abi/lib/storage_client.hpp"
#include "tests/support/test_instance.hpp"

using namespace aios;
using nlohmann::json;

namespace {

constexpr double most_restart_ms = 20;
constexpr double most_boot_ms = 100;

struct Options {
  std::size_t kills = 21;
  std::size_t boots = 9;
  std::size_t objects = 10'000;
  bool as_json = false;
};

Options read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    std::size_t* number = name == "--kills"     ? &options.kills
                          : name == "--boots"   ? &options.boots
                          : name == "--objects" ? &options.objects
                                                : nullptr;
    char* end = nullptr;
    if (name == "--json")
      options.as_json = true;
    else if (number != nullptr && i + 1 < argc)
      *number = std::strtoull(argv[++i], &end, 10);
    if (name != "--json" && (number == nullptr || end == nullptr || *end != '\0')) {
      std::fprintf(stderr, "options are [--kills N] [--boots N] [--objects N] [--json]\n");
      std::exit(2);
    }
  }
  return options;
}

/// The manifest that comes along, with every port published and kills that count for nothing.
std::string manifest() {
  std::ifstream file(AIOS_MANIFEST);
  std::string text(std::istreambuf_iterator<char>(file), {});
  const auto insert = [&text](std::string_view after, std::string_view line) {
    const std::size_t at = text.find(after);
    if (at != text.npos) text.insert(at + after.size(), line);
  };
  insert("[instance]\n", "restart = { count = 100000, window_ms = 1000 }\n");
  insert("[server.cpu]\n", "publish = true\n");
  return text;
}

/// In milliseconds.
struct Times {
  std::vector<double> all;
  double at(double share) {
    std::sort(all.begin(), all.end());
    return all.empty() ? 0 : all[static_cast<std::size_t>(share * double(all.size() - 1))];
  }
};

Result<void> put_objects(test::TestInstance& instance, std::size_t count) {
  StorageClient storage(TRY(instance.visitor().client<proto::storage::Protocol>()));
  const Region memory = TRY(Region::create(instance.visitor().kernel(), 4096, "objects"));
  for (std::size_t i = 0; i < count; ++i)
    TRY(storage.put("restart/" + std::to_string(i), {memory, true, 0, 1024}, test::patience()));
  return {};
}

Result<double> kill_and_call(test::TestInstance& instance, const std::string& server,
                             Client& client) {
  const auto before = TRY(instance.server(server));
  const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, before.pid, 0)));
  TRY(client.call<proto::Null>({}, test::patience()));
  const std::uint64_t begin = now_ns();
  ::kill(static_cast<pid_t>(before.pid), SIGKILL);
  pollfd ended{process.get(), POLLIN, 0};
  ::poll(&ended, 1, -1);
  for (;;) {
    const auto reply = client.call<proto::Null>({}, test::patience());
    if (reply) break;
    if (reply.error().code() != Code::peer_closed) return std::unexpected(reply.error());
  }
  const double took = double(now_ns() - begin) / 1e6;
  TRY(instance.wait_restarted(server, before.epoch));
  return took;
}

Result<json> measure(const Options& options) {
  json results = json::array();
  const auto add = [&results](const std::string& name, Times times, double most) {
    results.push_back({{"name", name},
                       {"p50_ms", times.at(0.5)},
                       {"p99_ms", times.at(0.99)},
                       {"most_p50_ms", most},
                       {"samples", times.all.size()}});
  };
  Times boots;
  for (std::size_t i = 0; i < options.boots; ++i) {
    std::uint64_t begin = now_ns();
    const auto booted = TRY(test::TestInstance::boot_running(manifest()));
    boots.all.push_back(double(now_ns() - begin) / 1e6);
  }
  if (options.boots != 0) add("boot", boots, most_boot_ms);

  const auto instance = TRY(test::TestInstance::boot_running(manifest()));
  TRY(put_objects(*instance, options.objects));
  for (const char* server : {"scheduler", "cpu", "storage", "mapreduce", "echo"}) {
    // Version 0: for null calls, which every server answers.
    const auto client = TRY(instance->visitor().client(server, 0));
    Times times;
    for (std::size_t i = 0; i < options.kills; ++i)
      times.all.push_back(TRY(kill_and_call(*instance, server, *client)));
    add(server, times, most_restart_ms);
  }
  return results;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = read_options(argc, argv);
  const Result<json> results = measure(options);
  if (!results) {
    std::fprintf(stderr, "cannot measure: %s\n", results.error().to_string().c_str());
    return 1;
  }
  bool good = true;
  if (options.as_json) std::printf("%s\n", results->dump(2).c_str());
  for (const json& result : *results) {
    const double p50 = result["p50_ms"];
    const double most = result["most_p50_ms"];
    good = good && p50 <= most;
    if (!options.as_json)
      std::printf("%-10s p50 %7.2f ms  p99 %7.2f ms  target %4.0f ms  %s\n",
                  result["name"].get<std::string>().c_str(), p50, double(result["p99_ms"]), most,
                  p50 <= most ? "ok" : "MISSED");
  }
  return good ? 0 : 1;
}
