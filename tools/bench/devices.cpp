#include "tools/bench/devices.hpp"

#include <aios/codelet.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

#include "tools/bench/devices_report.hpp"
#include "tools/bench/samples.hpp"

namespace aios::bench {

namespace {

using nlohmann::json;

constexpr std::size_t launches = 200;
/// 64 MiB a buffer: more than caches hold.
constexpr std::uint32_t stream_floats = 16u << 20;
constexpr std::uint32_t largest_sgemm = 2048;
/// What a case may take on a device that is slow, or emulated.
constexpr std::uint64_t patience_ns = 500'000'000;
/// How long OpenBLAS's threads look for more work when theirs is done.
constexpr unsigned blas_rest_us = 100'000;

std::vector<std::byte> pack(std::initializer_list<std::uint32_t> words) {
  const auto* const begin = reinterpret_cast<const std::byte*>(words.begin());
  return {begin, begin + words.size() * sizeof(std::uint32_t)};
}

/// The values of each round.
struct Values {
  std::vector<double> all;
  json to_json() const {
    return {{"median", median(all)},
            {"lowest", std::ranges::min(all)},
            {"highest", std::ranges::max(all)}};
  }
};

/// A case: its values by the way in which they were measured.
using Case = std::map<std::string, Values>;

class DeviceBench {
 public:
  DeviceBench(const DevicesOptions& options, const BenchDevice& device, OpenBlas& blas);
  void round();
  json report() const;

 private:
  struct Pair {
    std::unique_ptr<Prepared> through;
    std::unique_ptr<Prepared> direct;
  };
  Pair prepare(const Workload& workload) {
    return {through_->prepare(workload), direct_->prepare(workload)};
  }
  /// The largest size, doubling from `least`, whose run stays within the patience.
  std::uint32_t fitting(std::uint32_t least, std::uint32_t most, double growth,
                        const std::function<Workload(std::uint32_t)>& make);
  void launch_round();
  void stream_round();
  void sgemm_round();
  void crash_round();

  const BenchDevice device_;
  OpenBlas& blas_;
  std::unique_ptr<Way> through_;
  std::unique_ptr<Way> direct_;
  std::unique_ptr<Crasher> crasher_;
  std::unique_ptr<BareCuda> cuda_;  ///< of a device of that backend
  Pair one_block_;
  Pair stream_;
  Pair sgemm_;
  std::uint32_t stream_size_ = 0;
  std::uint32_t sgemm_size_ = 0;
  Case launch_ns_, stream_gb_s_, sgemm_gflop_s_, kill_to_ready_ns_, ratios_;
};

std::uint32_t DeviceBench::fitting(std::uint32_t least, std::uint32_t most, double growth,
                                   const std::function<Workload(std::uint32_t)>& make) {
  std::uint32_t size = least;
  const auto took = [&] {
    const auto prepared = direct_->prepare(make(size));
    (void)prepared->run(1, false);
    return static_cast<double>(prepared->run(1, false));
  };
  while (size < most && took() * growth < static_cast<double>(patience_ns)) size *= 2;
  return size;
}

DeviceBench::DeviceBench(const DevicesOptions& options, const BenchDevice& device, OpenBlas& blas)
    : device_(device),
      blas_(blas),
      through_(through(options.socket, options.codelets, device)),
      direct_(direct(options.codelets, device)),
      crasher_(crasher(options.socket, options.codelets, device)) {
  if (device.backend == "cuda") cuda_ = bare_cuda(options.codelets, device);
  one_block_ = prepare(one_block());
  stream_size_ = fitting(1u << 12, stream_floats, 2, bench::stream);
  stream_ = prepare(bench::stream(stream_size_));
  sgemm_size_ = fitting(64, largest_sgemm, 8, bench::sgemm);
  sgemm_ = prepare(bench::sgemm(sgemm_size_));
}

void DeviceBench::launch_round() {
  const auto each = [](Prepared& way, std::size_t count, bool at_once) {
    (void)way.run(8, at_once);
    return static_cast<double>(way.run(count, at_once)) / static_cast<double>(count);
  };
  const double direct = each(*one_block_.direct, launches, false);
  const double through = each(*one_block_.through, launches, false);
  const double direct_queued = each(*one_block_.direct, launches, true);
  const double through_queued = each(*one_block_.through, launches, true);
  launch_ns_["direct"].all.push_back(direct);
  launch_ns_["through"].all.push_back(through);
  launch_ns_["direct_queued"].all.push_back(direct_queued);
  launch_ns_["through_queued"].all.push_back(through_queued);
  ratios_["launch_queued_through_minus_direct_ns"].all.push_back(through_queued - direct_queued);
  if (cuda_ == nullptr) return;
  const auto bare = [&](bool at_once) {
    (void)cuda_->launches_ns(8, at_once);
    return static_cast<double>(cuda_->launches_ns(launches, at_once)) / launches;
  };
  launch_ns_["bare"].all.push_back(bare(false));
  launch_ns_["bare_queued"].all.push_back(bare(true));
  ratios_["launch_queued_through_minus_bare_ns"].all.push_back(
      through_queued - launch_ns_["bare_queued"].all.back());
}

void DeviceBench::stream_round() {
  const double bytes = 3.0 * sizeof(float) * stream_size_;
  const auto once = [&](Prepared& way) {
    (void)way.run(1, false);
    return bytes / static_cast<double>(way.run(1, false));
  };
  const double through = once(*stream_.through);
  const double direct = once(*stream_.direct);
  const auto bare_ns = [&] {
    return cuda_ != nullptr ? cuda_->copies_ns(std::uint64_t{stream_size_} * sizeof(float))
                            : bare_stream_ns(stream_size_, device_.threads);
  };
  (void)bare_ns();
  const double bare = bytes / static_cast<double>(bare_ns());
  stream_gb_s_["through"].all.push_back(through);
  stream_gb_s_["direct"].all.push_back(direct);
  stream_gb_s_["bare"].all.push_back(bare);
  ratios_["stream_through_over_bare"].all.push_back(through / bare);
}

void DeviceBench::sgemm_round() {
  const double flops = 2.0 * sgemm_size_ * sgemm_size_ * sgemm_size_;
  const auto once = [&](Prepared& way) {
    (void)way.run(1, false);
    return flops / static_cast<double>(way.run(1, false));
  };
  const double through = once(*sgemm_.through);
  const double direct = once(*sgemm_.direct);
  sgemm_gflop_s_["through"].all.push_back(through);
  sgemm_gflop_s_["direct"].all.push_back(direct);
  ratios_["sgemm_through_over_direct"].all.push_back(through / direct);
  const auto beside = [&](const std::string& name, std::uint64_t ns) {
    sgemm_gflop_s_[name].all.push_back(flops / static_cast<double>(ns));
    ratios_["sgemm_through_over_" + name].all.push_back(through / sgemm_gflop_s_[name].all.back());
  };
  if (cuda_ != nullptr)
    if (const auto ns = cuda_->sgemm_ns(sgemm_size_)) beside("cublas", *ns);
  if (!blas_.available() || device_.kind != "cpu") return;
  (void)blas_.sgemm_ns(sgemm_size_, device_.threads);
  beside("openblas", blas_.sgemm_ns(sgemm_size_, device_.threads));
  ::usleep(blas_rest_us);
}

void DeviceBench::crash_round() {
  kill_to_ready_ns_["through"].all.push_back(static_cast<double>(crasher_->ready_again_ns()));
}

void DeviceBench::round() {
  launch_round();
  stream_round();
  sgemm_round();
  crash_round();
}

json to_json(const Case& figures) {
  json out = json::object();
  for (const auto& [name, values] : figures) out[name] = values.to_json();
  return out;
}

json DeviceBench::report() const {
  return {{"device", device_.index},
          {"kind", device_.kind},
          {"backend", device_.backend},
          {"model", device_.model},
          {"emulated", device_.emulated},
          {"threads", device_.threads},
          {"launch_ns", to_json(launch_ns_)},
          {"stream_bytes", 3ull * sizeof(float) * stream_size_},
          {"stream_gb_s", to_json(stream_gb_s_)},
          {"sgemm_size", sgemm_size_},
          {"sgemm_gflop_s", to_json(sgemm_gflop_s_)},
          {"kill_to_ready_ns", to_json(kill_to_ready_ns_)},
          {"ratios", to_json(ratios_)}};
}

void print_case(const std::string& name, const json& figures) {
  for (const auto& [way, values] : figures.items())
    fmt::print("  {:<44}{:>12.4g}   {:.4g} to {:.4g}\n", name + " " + way,
               values["median"].get<double>(), values["lowest"].get<double>(),
               values["highest"].get<double>());
}

void print(const json& out) {
  for (const json& device : out["devices"]) {
    fmt::print("device {}: {} by {}{}\n", device["device"].get<int>(),
               device["model"].get<std::string>(), device["backend"].get<std::string>(),
               device["emulated"].get<bool>() ? " (EMULATED: its speed means nothing)" : "");
    print_case("launch, ns:", device["launch_ns"]);
    print_case(
        fmt::format("stream of {} MiB, GB/s:", device["stream_bytes"].get<std::uint64_t>() >> 20),
        device["stream_gb_s"]);
    print_case(fmt::format("sgemm of {}, GFLOP/s:", device["sgemm_size"].get<int>()),
               device["sgemm_gflop_s"]);
    print_case("killed context to next task done, ns:", device["kill_to_ready_ns"]);
    print_case("", device["ratios"]);
  }
}

}  // namespace

Workload one_block() {
  return {"vector",
          "vector_add",
          {1, 1, 1},
          pack({256}),
          {{1024, AIOS_MODE_READ}, {1024, AIOS_MODE_READ}, {1024, AIOS_MODE_WRITE}}};
}

Workload stream(std::uint32_t n) {
  const std::uint64_t bytes = std::uint64_t{n} * sizeof(float);
  return {"vector",
          "vector_add",
          {(n + 255) / 256, 1, 1},
          pack({n}),
          {{bytes, AIOS_MODE_READ}, {bytes, AIOS_MODE_READ}, {bytes, AIOS_MODE_WRITE}}};
}

Workload sgemm(std::uint32_t n) {
  const std::uint64_t bytes = std::uint64_t{n} * n * sizeof(float);
  return {"matrix",
          "sgemm",
          {(n + 63) / 64, (n + 63) / 64, 1},
          pack({n, n, n, std::bit_cast<std::uint32_t>(1.0f), 0}),
          {{bytes, AIOS_MODE_READ}, {bytes, AIOS_MODE_READ}, {bytes, AIOS_MODE_READ_WRITE}}};
}

void bench_devices(const DevicesOptions& options, int rounds, bool as_json) {
  OpenBlas blas;
  std::vector<std::unique_ptr<DeviceBench>> all;
  for (const BenchDevice& device : list_devices(options.socket))
    if (options.only.empty() ||
        std::ranges::find(options.only, device.backend) != options.only.end())
      all.push_back(std::make_unique<DeviceBench>(options, device, blas));
  if (all.empty()) throw std::runtime_error("there is no such device");
  for (int round = 1; round <= rounds; ++round) {
    if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r\033[Kround {} of {}", round, rounds);
    for (const auto& bench : all) bench->round();
  }
  if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r\033[K");
  json out{{"rounds", rounds}, {"devices", json::array()}};
  for (const auto& bench : all) out["devices"].push_back(bench->report());
  if (as_json)
    fmt::print("{}\n", out.dump(2));
  else
    print(out);
}

}  // namespace aios::bench
