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
constexpr std::uint32_t least_product = 64;
constexpr std::uint32_t largest_product = 2048;
/// Of a GPU, whose products are to take longer than what an event tells.
constexpr std::uint32_t largest_gpu_product = 8192;
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
  bool is_cuda() const { return cuda_ != nullptr; }
  json report() const;

 private:
  struct Pair {
    std::unique_ptr<Prepared> through;
    std::unique_ptr<Prepared> direct;
  };
  struct Products {
    const Product& of;
    Pair pair;
    std::uint32_t size = 0;
    Case gflop_s = {};
  };
  Pair prepare(const Workload& workload) {
    return {through_->prepare(workload), direct_->prepare(workload)};
  }
  /// The largest size, doubling from `least`, whose run stays within the patience.
  std::uint32_t fitting(std::uint32_t least, std::uint32_t most, double growth,
                        const std::function<Workload(std::uint32_t)>& make);
  void launch_round();
  void stream_round();
  void product_round(Products& one);
  void crash_round();
  void park_round();

  /// A process to be parked; its outcome, and none when it cannot be any more.
  struct Parking {
    std::string name;
    std::unique_ptr<Holder> holder = {};
    std::string outcome = {};
  };
  void prepare_parking(const DevicesOptions& options);
  void park(Parking& one);

  const BenchDevice device_;
  OpenBlas& blas_;
  std::unique_ptr<Way> through_;
  std::unique_ptr<Way> direct_;
  std::unique_ptr<Crasher> crasher_;
  std::unique_ptr<BareCuda> cuda_;  ///< of a device of that backend
  Pair one_block_;
  Pair stream_;
  std::vector<Products> products_;
  std::uint32_t stream_size_ = 0;
  std::vector<Parking> parkings_;
  std::vector<std::string> skipped_;
  Case launch_ns_, stream_gb_s_, kill_to_ready_ns_, park_ns_, parked_freed_bytes_, ratios_;
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
  const bool is_gpu = device.backend == "cuda" && !device.emulated;
  for (const Product& one : products) {
    const auto of = [&one](std::uint32_t n) { return product(one, n); };
    const std::uint32_t size =
        fitting(least_product, is_gpu ? largest_gpu_product : largest_product, 8, of);
    products_.push_back({one, prepare(of(size)), size});
  }
  if (cuda_ == nullptr) return;
  if (const std::string why = cuda_->no_cublas(); !why.empty())
    skipped_.push_back("products beside cuBLAS: " + why);
  prepare_parking(options);
}

/// Two, since the driver may treat memory that has come from another process differently.
void DeviceBench::prepare_parking(const DevicesOptions& options) {
  if (!cuda_->can_park()) {
    skipped_.push_back("parking: the driver has no cuCheckpointProcess*, which is of CUDA 12.8");
    return;
  }
  const auto add = [&](const char* name, auto make) {
    Parking one{.name = name};
    try {
      one.holder = make();
    } catch (const std::exception& failure) {
      one.outcome = std::string("failed: ") + failure.what();
    }
    parkings_.push_back(std::move(one));
  };
  add("context", [&] { return holder_in_context(options.socket, options.codelets, device_); });
  add("alone", [&] { return holder_alone(device_); });
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

/// Beside cuBLAS, which multiplies what is on the device, also the time that the device says the
/// task took: the rest of it are copies.
void DeviceBench::product_round(Products& one) {
  const std::string name = one.of.codelet;
  const double flops = 2.0 * one.size * one.size * one.size;
  const auto once = [&](Prepared& way) {
    (void)way.run(1, false);
    return flops / static_cast<double>(way.run(1, false));
  };
  const double through = once(*one.pair.through);
  const double alone = flops / static_cast<double>(one.pair.through->device_ns());
  const double direct = once(*one.pair.direct);
  one.gflop_s["through"].all.push_back(through);
  one.gflop_s["direct"].all.push_back(direct);
  ratios_[name + "_through_over_direct"].all.push_back(through / direct);
  const auto beside = [&](const std::string& peer, std::uint64_t ns) {
    one.gflop_s[peer].all.push_back(flops / static_cast<double>(ns));
    ratios_[name + "_through_over_" + peer].all.push_back(through / one.gflop_s[peer].all.back());
  };
  if (cuda_ != nullptr)
    if (const auto ns = cuda_->product_ns(one.of, one.size)) {
      beside("cublas", *ns);
      one.gflop_s["device"].all.push_back(alone);
      ratios_[name + "_device_over_cublas"].all.push_back(alone / one.gflop_s["cublas"].all.back());
    }
  if (!blas_.available() || device_.kind != "cpu" || one.of.element != Product::Element::f32)
    return;
  (void)blas_.sgemm_ns(one.size, device_.threads);
  beside("openblas", blas_.sgemm_ns(one.size, device_.threads));
  ::usleep(blas_rest_us);
}

void DeviceBench::crash_round() {
  kill_to_ready_ns_["through"].all.push_back(static_cast<double>(crasher_->ready_again_ns()));
}

/// One that has failed is not tried again.
void DeviceBench::park(Parking& one) {
  if (one.holder == nullptr) return;
  try {
    if (!one.holder->is_intact()) throw std::runtime_error("its memory was wrong before");
    const BareCuda::Parked parked = cuda_->park_and_resume(one.holder->pid());
    const bool intact = one.holder->is_intact();
    one.outcome = intact ? "resumed, its memory intact" : "failed: resumed, its memory changed";
    park_ns_[one.name + "_park"].all.push_back(static_cast<double>(parked.park_ns));
    park_ns_[one.name + "_resume"].all.push_back(static_cast<double>(parked.resume_ns));
    parked_freed_bytes_[one.name].all.push_back(static_cast<double>(parked.freed_bytes));
    if (intact) return;
  } catch (const std::exception& failure) {
    one.outcome = std::string("failed: ") + failure.what();
  }
  one.holder.reset();
}

void DeviceBench::park_round() {
  for (Parking& one : parkings_) park(one);
}

void DeviceBench::round() {
  launch_round();
  stream_round();
  for (Products& one : products_) product_round(one);
  crash_round();
  park_round();
}

json to_json(const Case& figures) {
  json out = json::object();
  for (const auto& [name, values] : figures) out[name] = values.to_json();
  return out;
}

json DeviceBench::report() const {
  json out{{"device", device_.index},
           {"kind", device_.kind},
           {"backend", device_.backend},
           {"model", device_.model},
           {"emulated", device_.emulated},
           {"threads", device_.threads},
           {"launch_ns", to_json(launch_ns_)},
           {"stream_bytes", 3ull * sizeof(float) * stream_size_},
           {"stream_gb_s", to_json(stream_gb_s_)},
           {"kill_to_ready_ns", to_json(kill_to_ready_ns_)},
           {"ratios", to_json(ratios_)},
           {"park_ns", to_json(park_ns_)},
           {"parked_freed_bytes", to_json(parked_freed_bytes_)},
           {"parked", json::object()},
           {"skipped", skipped_}};
  for (const Parking& one : parkings_) out["parked"][one.name] = one.outcome;
  for (const Products& one : products_) {
    out[one.of.codelet + std::string("_size")] = one.size;
    out[one.of.codelet + std::string("_gflop_s")] = to_json(one.gflop_s);
  }
  return out;
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
    for (const Product& product : products) {
      const std::string name = product.codelet;
      print_case(fmt::format("{} of {}, GFLOP/s:", name, device[name + "_size"].get<int>()),
                 device[name + "_gflop_s"]);
    }
    print_case("killed context to next task done, ns:", device["kill_to_ready_ns"]);
    print_case("parked process, ns:", device["park_ns"]);
    print_case("device memory that it freed, bytes:", device["parked_freed_bytes"]);
    for (const auto& [name, outcome] : device["parked"].items())
      fmt::print("  parked {}: {}\n", name, outcome.get<std::string>());
    print_case("", device["ratios"]);
    for (const json& why : device["skipped"]) fmt::print("  skipped: {}\n", why.get<std::string>());
  }
  for (const json& why : out["skipped"]) fmt::print("skipped: {}\n", why.get<std::string>());
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

Workload product(const Product& product, std::uint32_t n) {
  const std::uint64_t bytes = std::uint64_t{n} * n * product.bytes;
  return {product.module,
          product.codelet,
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
  json out{{"rounds", rounds}, {"devices", json::array()}, {"skipped", json::array()}};
  if (std::ranges::none_of(all, [](const auto& bench) { return bench->is_cuda(); }))
    out["skipped"].push_back(
        "no CUDA device: no half precision beside cuBLAS, and no process is parked");
  for (const auto& bench : all) out["devices"].push_back(bench->report());
  if (as_json)
    fmt::print("{}\n", out.dump(2));
  else
    print(out);
}

}  // namespace aios::bench
