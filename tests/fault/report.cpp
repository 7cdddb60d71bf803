#include "tests/fault/report.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace aios::fault {

namespace {

double ms(std::uint64_t ns) {
  return static_cast<double>(ns) / ns_per_ms;
}

/// Of sorted samples, at least one.
std::uint64_t quantile(const std::vector<std::uint64_t>& sorted, double which) {
  const auto index = static_cast<std::size_t>(which * static_cast<double>(sorted.size()));
  return sorted[std::min(index, sorted.size() - 1)];
}

std::string kernel_release() {
  utsname names{};
  ::uname(&names);
  return names.release;
}

Count total_of(const Report& report) {
  Count total;
  for (const Count& count : report.counts) {
    total.injected += count.injected;
    total.activated += count.activated;
  }
  return total;
}

}  // namespace

void print_kinds() {
  for (const KindInfo& kind : kinds)
    std::printf("%-22.*s %-11s activated: %.*s\n", static_cast<int>(kind.name.size()),
                kind.name.data(), kind.everything ? "everything" : "containment",
                static_cast<int>(kind.activated.size()), kind.activated.data());
}

void print_text(const Report& report) {
  std::printf("\n%-22s %10s %10s %9s  promise\n", "fault", "injected", "activated", "ms a try");
  for (std::size_t i = 0; i < kind_count; ++i)
    if (report.counts[i].injected != 0)
      std::printf(
          "%-22.*s %10llu %10llu %9.1f  %s\n", static_cast<int>(kinds[i].name.size()),
          kinds[i].name.data(), static_cast<unsigned long long>(report.counts[i].injected),
          static_cast<unsigned long long>(report.counts[i].activated),
          ms(report.counts[i].spent_ns / std::max<std::uint64_t>(report.counts[i].tries, 1)),
          kinds[i].everything ? "everything" : "containment");
  const Count total = total_of(report);
  const std::uint64_t peer = report.counts[static_cast<std::size_t>(Kind::hostile_peer)].activated;
  std::printf("%-22s %10llu %10llu  of them %llu without the hostile peer's\n", "in all",
              static_cast<unsigned long long>(total.injected),
              static_cast<unsigned long long>(total.activated),
              static_cast<unsigned long long>(total.activated - peer));
  std::printf("\n%-24s %8s %10s %10s %10s\n", "kill to serving again", "times", "p50 ms", "p99 ms",
              "most ms");
  for (const auto& [name, samples] : report.recovery) {
    if (samples.empty()) continue;
    std::vector<std::uint64_t> sorted = samples;
    std::ranges::sort(sorted);
    std::printf("%-24s %8zu %10.2f %10.2f %10.2f\n", name.c_str(), sorted.size(),
                ms(quantile(sorted, 0.5)), ms(quantile(sorted, 0.99)), ms(sorted.back()));
  }
  std::printf("\n%-24s %10s %9s\n", "workload", "calls", "right");
  for (const auto& work : report.work) {
    std::string failures;
    for (const auto& [code, count] : work.failures)
      failures += "  " + code + " " + std::to_string(count);
    std::printf("%-24s %10llu %8.2f%% %s\n", work.name.c_str(),
                static_cast<unsigned long long>(work.calls),
                100.0 * static_cast<double>(work.right) /
                    static_cast<double>(std::max<std::uint64_t>(work.calls, 1)),
                failures.c_str());
  }
  std::printf(
      "\nthe longest flush of the disk, without AIOS: %.1f ms; servers that did not answer "
      "while it stood still, and were restarted: %llu\n",
      ms(report.longest_flush_ns), static_cast<unsigned long long>(report.hung_with_disk));
  for (const std::string& breach : report.breaches) std::printf("BREACH: %s\n", breach.c_str());
  std::printf(
      "\n%s: seed %llu, commit %s, Linux %s, %ld cores, disk %s, %.1f s\n",
      report.breaches.empty() ? "passed" : "FAILED", static_cast<unsigned long long>(report.seed),
      report.commit.c_str(), kernel_release().c_str(), ::sysconf(_SC_NPROCESSORS_ONLN),
      report.disk.empty() ? "of the host (never filled)" : report.disk.c_str(), report.seconds);
}

void print_json(const Report& report) {
  nlohmann::json out;
  out["passed"] = report.breaches.empty();
  out["seed"] = report.seed;
  out["commit"] = report.commit;
  out["linux"] = kernel_release();
  out["cores"] = ::sysconf(_SC_NPROCESSORS_ONLN);
  out["disk"] = report.disk;
  out["seconds"] = report.seconds;
  out["longest_flush_ms"] = ms(report.longest_flush_ns);
  out["hung_with_disk"] = report.hung_with_disk;
  out["breaches"] = report.breaches;
  const Count total = total_of(report);
  out["injected"] = total.injected;
  out["activated"] = total.activated;
  for (std::size_t i = 0; i < kind_count; ++i)
    out["kinds"].push_back({{"kind", kinds[i].name},
                            {"promise", kinds[i].everything ? "everything" : "containment"},
                            {"injected", report.counts[i].injected},
                            {"activated", report.counts[i].activated}});
  out["recovery"] = nlohmann::json::array();
  for (const auto& [name, samples] : report.recovery) {
    if (samples.empty()) continue;
    std::vector<std::uint64_t> sorted = samples;
    std::ranges::sort(sorted);
    out["recovery"].push_back({{"server", name},
                               {"times", sorted.size()},
                               {"p50_ms", ms(quantile(sorted, 0.5))},
                               {"p99_ms", ms(quantile(sorted, 0.99))},
                               {"most_ms", ms(sorted.back())}});
  }
  for (const auto& work : report.work)
    out["workload"].push_back({{"name", work.name},
                               {"calls", work.calls},
                               {"right", work.right},
                               {"failures", work.failures}});
  std::printf("%s\n", out.dump(2).c_str());
}

}  // namespace aios::fault
