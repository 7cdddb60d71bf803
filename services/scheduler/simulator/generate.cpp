// Generated graphs. Tasks are emitted as a program would run them one after the other; who waits
// for whom follows from what they read and write.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>

#include "services/scheduler/simulator/graph.hpp"

namespace aios::scheduler::sim {
namespace {

constexpr double tile = 960;  ///< elements in a row
constexpr std::uint64_t tile_bytes = 960 * 960 * 4;
constexpr double flops_per_s = 20e9;  ///< of a core, single precision
constexpr double cube_s = tile * tile * tile / flops_per_s;

class Builder {
 public:
  explicit Builder(std::string name) { graph_.name = std::move(name); }

  std::uint32_t type(std::string name, double acceleration) {
    graph_.types.push_back({std::move(name), acceleration});
    return static_cast<std::uint32_t>(graph_.types.size() - 1);
  }
  std::uint32_t data(std::uint64_t bytes) {
    graph_.data_bytes.push_back(bytes);
    last_writer_.push_back(none);
    readers_.emplace_back();
    return static_cast<std::uint32_t>(graph_.data_bytes.size() - 1);
  }
  void task(std::uint32_t type, double work_s, std::vector<Access> accesses) {
    const auto number = static_cast<std::uint32_t>(graph_.tasks.size());
    SimTask task;
    task.name = graph_.types[type].name + "_" + std::to_string(number);
    task.type = type;
    task.work_s = work_s;
    for (const Access& access : accesses) {
      task.memory_bytes += graph_.data_bytes[access.data];
      wait_for(task, access, number);
    }
    std::ranges::sort(task.parents);
    task.parents.erase(std::ranges::unique(task.parents).begin(), task.parents.end());
    task.accesses = std::move(accesses);
    graph_.tasks.push_back(std::move(task));
  }
  Result<Graph> done() {
    TRY(check_size(graph_));
    return std::move(graph_);
  }

 private:
  static constexpr std::uint32_t none = ~0u;

  void wait_for(SimTask& task, const Access& access, std::uint32_t number) {
    std::vector<std::uint32_t>& readers = readers_[access.data];
    std::uint32_t& writer = last_writer_[access.data];
    if (writer != none) task.parents.push_back(writer);
    if (access.writes()) {
      task.parents.insert(task.parents.end(), readers.begin(), readers.end());
      readers.clear();
      writer = number;
    } else {
      readers.push_back(number);
    }
    std::erase(task.parents, number);
  }

  Graph graph_;
  std::vector<std::uint32_t> last_writer_;
  std::vector<std::vector<std::uint32_t>> readers_;
};

constexpr Access in(std::uint32_t data) {
  return {data, AIOS_MODE_READ};
}
constexpr Access out(std::uint32_t data) {
  return {data, AIOS_MODE_WRITE};
}
constexpr Access inout(std::uint32_t data) {
  return {data, AIOS_MODE_READ_WRITE};
}

/// N by N tiles, by row and column.
std::vector<std::vector<std::uint32_t>> tiles(Builder& b, std::uint32_t n, bool lower) {
  std::vector<std::vector<std::uint32_t>> a(n, std::vector<std::uint32_t>(n));
  for (std::uint32_t i = 0; i < n; ++i)
    for (std::uint32_t k = 0; k < (lower ? i + 1 : n); ++k) a[i][k] = b.data(tile_bytes);
  return a;
}

Result<Graph> cholesky(const std::string& name, std::uint32_t n) {
  Builder b(name);
  const auto potrf = b.type("potrf", 0.1), trsm = b.type("trsm", 0.5);
  const auto syrk = b.type("syrk", 0.9), gemm = b.type("gemm", 1);
  const auto a = tiles(b, n, true);
  for (std::uint32_t k = 0; k < n; ++k) {
    b.task(potrf, cube_s / 3, {inout(a[k][k])});
    for (std::uint32_t i = k + 1; i < n; ++i) b.task(trsm, cube_s, {in(a[k][k]), inout(a[i][k])});
    for (std::uint32_t i = k + 1; i < n; ++i) {
      for (std::uint32_t j = k + 1; j < i; ++j)
        b.task(gemm, 2 * cube_s, {in(a[i][k]), in(a[j][k]), inout(a[i][j])});
      b.task(syrk, cube_s, {in(a[i][k]), inout(a[i][i])});
    }
  }
  return b.done();
}

Result<Graph> lu(const std::string& name, std::uint32_t n) {
  Builder b(name);
  const auto getrf = b.type("getrf", 0.15), trsm_l = b.type("trsm_ll", 0.5);
  const auto trsm_u = b.type("trsm_ru", 0.5), gemm = b.type("gemm", 1);
  const auto a = tiles(b, n, false);
  for (std::uint32_t k = 0; k < n; ++k) {
    b.task(getrf, 2 * cube_s / 3, {inout(a[k][k])});
    for (std::uint32_t i = k + 1; i < n; ++i) {
      b.task(trsm_l, cube_s, {in(a[k][k]), inout(a[k][i])});
      b.task(trsm_u, cube_s, {in(a[k][k]), inout(a[i][k])});
    }
    for (std::uint32_t i = k + 1; i < n; ++i)
      for (std::uint32_t j = k + 1; j < n; ++j)
        b.task(gemm, 2 * cube_s, {in(a[i][k]), in(a[k][j]), inout(a[i][j])});
  }
  return b.done();
}

Result<Graph> qr(const std::string& name, std::uint32_t n) {
  Builder b(name);
  const auto geqrt = b.type("geqrt", 0.1), unmqr = b.type("unmqr", 0.7);
  const auto tsqrt = b.type("tsqrt", 0.25), tsmqr = b.type("tsmqr", 0.9);
  const auto a = tiles(b, n, false);
  for (std::uint32_t k = 0; k < n; ++k) {
    b.task(geqrt, 4 * cube_s / 3, {inout(a[k][k])});
    for (std::uint32_t j = k + 1; j < n; ++j)
      b.task(unmqr, 2 * cube_s, {in(a[k][k]), inout(a[k][j])});
    for (std::uint32_t i = k + 1; i < n; ++i) {
      b.task(tsqrt, 2 * cube_s, {inout(a[k][k]), inout(a[i][k])});
      for (std::uint32_t j = k + 1; j < n; ++j)
        b.task(tsmqr, 4 * cube_s, {in(a[i][k]), inout(a[k][j]), inout(a[i][j])});
    }
  }
  return b.done();
}

/// `width` cells over as many steps; each reads its neighbours of the step before.
Result<Graph> stencil(const std::string& name, std::uint32_t width) {
  Builder b(name);
  const auto cell = b.type("cell", 0.8);
  std::vector<std::uint32_t> now, next;
  for (std::uint32_t i = 0; i < width; ++i) now.push_back(b.data(tile_bytes));
  for (std::uint32_t i = 0; i < width; ++i) next.push_back(b.data(tile_bytes));
  for (std::uint32_t step = 0; step < width; ++step) {
    for (std::uint32_t i = 0; i < width; ++i) {
      std::vector<Access> accesses{out(next[i]), in(now[i])};
      if (i > 0) accesses.push_back(in(now[i - 1]));
      if (i + 1 < width) accesses.push_back(in(now[i + 1]));
      b.task(cell, cube_s, std::move(accesses));
    }
    std::swap(now, next);
  }
  return b.done();
}

/// Butterflies over 2^k points, where 2^k is the least that is not below `points`.
Result<Graph> fft(const std::string& name, std::uint32_t points) {
  Builder b(name);
  const auto butterfly = b.type("butterfly", 0.7);
  std::uint32_t width = 2;
  while (width < points) width *= 2;
  std::vector<std::uint32_t> now, next;
  for (std::uint32_t i = 0; i < width; ++i) now.push_back(b.data(tile_bytes));
  for (std::uint32_t i = 0; i < width; ++i) next.push_back(b.data(tile_bytes));
  for (std::uint32_t stride = 1; stride < width; stride *= 2) {
    for (std::uint32_t i = 0; i < width; ++i)
      b.task(butterfly, cube_s, {out(next[i]), in(now[i]), in(now[i ^ stride])});
    std::swap(now, next);
  }
  return b.done();
}

/// Layers of about sqrt(n) tasks of six types, each reading one to three results of the three
/// layers before.
Result<Graph> random_layers(const std::string& name, std::uint32_t n, std::uint64_t seed) {
  Builder b(name);
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t limit) { return random() % limit; };
  std::vector<double> work_s;
  for (int t = 0; t < 6; ++t) {
    b.type("type" + std::to_string(t), 0.05 + 0.19 * t);
    work_s.push_back(cube_s * std::pow(2.0, static_cast<double>(below(5))));
  }
  const auto width = static_cast<std::uint32_t>(std::ceil(std::sqrt(n)));
  std::vector<std::uint32_t> results;
  for (std::uint32_t i = 0; i < n; ++i) {
    std::vector<Access> accesses;
    const std::uint32_t first = i / width < 3 ? 0 : (i / width - 3) * width;
    const std::uint32_t last = i / width * width;
    for (std::uint64_t k = 0; last > 0 && k < 1 + below(3); ++k) {
      const std::uint32_t from = results[first + below(last - first)];
      if (std::ranges::none_of(accesses, [&](const Access& a) { return a.data == from; }))
        accesses.push_back(in(from));
    }
    results.push_back(b.data(tile_bytes * (1 + below(4)) / 2));
    accesses.push_back(out(results.back()));
    const auto type = static_cast<std::uint32_t>(below(6));
    b.task(type, work_s[type], std::move(accesses));
  }
  return b.done();
}

bool parse(std::string_view text, std::uint64_t& value) {
  const auto end = text.data() + text.size();
  const auto [at, failure] = std::from_chars(text.data(), end, value);
  return failure == std::errc{} && at == end && !text.empty();
}

}  // namespace

Result<Graph> generate(const std::string& spec) {
  const std::size_t colon = spec.find(':');
  const std::string kind = spec.substr(0, colon);
  const std::string rest = colon == std::string::npos ? "" : spec.substr(colon + 1);
  const std::size_t second = rest.find(':');
  std::uint64_t size = 0;
  std::uint64_t seed = 1;
  const bool numbers = parse(std::string_view(rest).substr(0, second), size) &&
                       (second == std::string::npos || parse(rest.substr(second + 1), seed));
  constexpr std::string_view kinds[] = {"cholesky", "lu", "qr", "stencil", "fft", "random"};
  if (std::ranges::find(kinds, kind) == std::end(kinds))
    return error(Code::invalid_argument, "there is no generator '" + kind +
                                             "'; choose cholesky, lu, qr, stencil, fft or random");
  if (second != std::string::npos && kind != "random")
    return error(Code::invalid_argument,
                 "'" + spec + "': only random takes a seed; write " + kind + ":SIZE");
  if (!numbers || size < 1 || size > 65'000)
    return error(
        Code::invalid_argument,
        "'" + spec +
            "': write KIND:SIZE with a size from 1 to 65000, such as cholesky:12 (tiles in "
            "a row), or random:SIZE:SEED, such as random:500:7 (tasks)");
  const auto n = static_cast<std::uint32_t>(size);
  if (kind == "random") return random_layers(spec, n, seed);
  // Tiles are pieces of data, of which there may be 1,536.
  if (n > max_data_simulated / 2)
    return error(Code::invalid_argument,
                 "'" + spec + "': at most 768 in a row; choose a smaller size");
  if (kind == "stencil") return stencil(spec, n);
  if (kind == "fft") return fft(spec, n);
  if (n > 54 || (kind != "cholesky" && n > 39))
    return error(Code::invalid_argument, "'" + spec +
                                             "': at most 54 tiles in a row for cholesky, 39 for lu "
                                             "and qr; choose a smaller size");
  if (kind == "cholesky") return cholesky(spec, n);
  return kind == "lu" ? lu(spec, n) : qr(spec, n);
}

}  // namespace aios::scheduler::sim
