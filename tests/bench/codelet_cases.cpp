#include "tests/bench/codelet_cases.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>

#include "abi/include/aios/codelet.h"
#ifdef AIOS_HAVE_HIGHWAY
#include "tests/bench/peers/highway_codelets.hpp"
#endif

namespace aios::bench {

namespace {

struct Span {
  std::size_t begin, end;
  std::size_t size() const { return end - begin; }
};
Span part_of(std::size_t count, unsigned t, unsigned of) {
  return {count * t / of, count * (t + 1) / of};
}

// ---- the codelets -------------------------------------------------------------------------------

/// Buffers that live as long as the process; aligned as regions are.
struct Memory {
  explicit Memory(std::size_t bytes)
      : size(bytes), data(static_cast<std::byte*>(std::aligned_alloc(4096, (bytes | 4095) + 1))) {
    std::memset(data, 0, bytes);
  }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
  std::size_t size;
  std::byte* data;
};

Memory floats(std::size_t n) {
  static std::mt19937 random(1);
  Memory made(n * sizeof(float));
  std::uniform_real_distribution<float> between(-1, 1);
  std::generate_n(made.as<float>(), n, [&] { return between(random); });
  return made;
}

Memory words_below(std::size_t n, std::uint32_t bound) {
  static std::mt19937 random(2);
  Memory made(n * sizeof(std::uint32_t));
  std::generate_n(made.as<std::uint32_t>(), n, [&] { return random() % bound; });
  return made;
}

Memory bytes(std::size_t n) {
  static std::mt19937 random(3);
  Memory made(n);
  std::generate_n(made.as<std::uint8_t>(), n, [&] { return static_cast<std::uint8_t>(random()); });
  return made;
}

/// Numbers of 16 bits that are none too large in either format: 1 to 2, or so.
Memory halves(std::size_t n, std::uint16_t one) {
  static std::mt19937 random(4);
  Memory made(n * sizeof(std::uint16_t));
  std::generate_n(made.as<std::uint16_t>(), n,
                  [&] { return static_cast<std::uint16_t>(one | (random() & 0x3f)); });
  return made;
}

aios_codelet_function function_of(void* module, const char* table, const std::string& name) {
  const auto* const listed = static_cast<const aios_module_table*>(::dlsym(module, table));
  for (std::uint32_t i = 0; listed != nullptr && i < listed->count; ++i)
    if (listed->codelets[i].name == name) return listed->codelets[i].run;
  return nullptr;
}

/// A codelet of a module and what it is called with.
class Call {
 public:
  Call(const std::string& module, const std::string& name, std::array<std::uint32_t, 3> grid,
       std::vector<std::uint32_t> arguments,
       const std::vector<std::pair<Memory, unsigned>>& buffers)
      : grid_(grid), arguments_(std::move(arguments)) {
    const std::string path = CODELET_FOLDER "/" + module + ".so";
    void* const loaded = ::dlopen(path.c_str(), RTLD_NOW);
    if (loaded == nullptr) throw std::runtime_error(::dlerror());
    run_ = function_of(loaded, "aios_module", name);
    share_ = function_of(loaded, "aios_module_shares", name);
    if (run_ == nullptr) throw std::runtime_error(path + " has no codelet " + name);
    for (const auto& [memory, mode] : buffers)
      buffers_.push_back({memory.data, memory.size, mode, 0, nullptr});
  }

  void shares(unsigned t, unsigned of) const {
    if (share_ == nullptr) return blocks(t, of);
    aios_task task = made();
    task.share = t;
    task.shares = of;
    check(share_(&task), task);
  }
  void blocks(unsigned t, unsigned of) const {
    const Span own = part_of(std::size_t{grid_[0]} * grid_[1] * grid_[2], t, of);
    for (std::size_t i = own.begin; i < own.end; ++i) {
      // As a context does: with what a block needs for itself.
      char message[384] = {};
      aios_task task = made();
      task.message = message;
      task.message_bytes = sizeof message;
      task.block[0] = static_cast<std::uint32_t>(i % grid_[0]);
      task.block[1] = static_cast<std::uint32_t>(i / grid_[0] % grid_[1]);
      task.block[2] = static_cast<std::uint32_t>(i / grid_[0] / grid_[1]);
      check(run_(&task), task);
    }
  }

 private:
  aios_task made() const {
    aios_task task{};
    std::ranges::copy(grid_, task.grid);
    task.buffer_count = static_cast<std::uint32_t>(buffers_.size());
    task.argument_bytes = static_cast<std::uint32_t>(arguments_.size() * sizeof(std::uint32_t));
    task.buffers = buffers_.data();
    task.arguments = arguments_.data();
    return task;
  }
  static void check(std::int32_t status, const aios_task& task) {
    if (status == 0) return;
    std::fprintf(stderr, "a codelet failed: %s\n", task.message == nullptr ? "?" : task.message);
    std::abort();
  }

  std::array<std::uint32_t, 3> grid_;
  std::vector<std::uint32_t> arguments_;
  std::vector<aios_buffer> buffers_;
  aios_codelet_function run_ = nullptr;
  aios_codelet_function share_ = nullptr;
};

CodeletCase make(const std::string& name, Call call, std::string peer_name,
                 CodeletCase::Part peer) {
  const auto shared = std::make_shared<const Call>(std::move(call));
  return {name, std::move(peer_name), [shared](unsigned t, unsigned of) { shared->shares(t, of); },
          [shared](unsigned t, unsigned of) { shared->blocks(t, of); }, std::move(peer)};
}

#ifdef AIOS_HAVE_HIGHWAY
#define BY_HIGHWAY(...) CodeletCase::Part(__VA_ARGS__)
#else
#define BY_HIGHWAY(...) CodeletCase::Part()
#endif

/// As many bytes copied as the codelet reads and writes: what memory allows.
CodeletCase::Part copying(std::size_t bytes_moved) {
  const Memory from(bytes_moved / 2), to(bytes_moved / 2);
  return [=](unsigned t, unsigned of) {
    const Span own = part_of(from.size, t, of);
    std::memcpy(to.data + own.begin, from.data + own.begin, own.size());
  };
}

// ---- OpenBLAS -----------------------------------------------------------------------------------

struct Blas {
  using Axpy = void (*)(int, float, const float*, int, float*, int);
  using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int,
                         float, float*, int);
  Blas() {
    // It makes its threads now, for all cores: later they would be where the caller is pinned to.
    ::unsetenv("OPENBLAS_NUM_THREADS");
    // For the modules, too.
    void* const library = ::dlopen("libopenblas.so.0", RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr) return;
    set_threads = reinterpret_cast<void (*)(int)>(::dlsym(library, "openblas_set_num_threads"));
    axpy = reinterpret_cast<Axpy>(::dlsym(library, "cblas_saxpy"));
    sgemm = reinterpret_cast<Sgemm>(::dlsym(library, "cblas_sgemm"));
    if (set_threads != nullptr) set_threads(1);
  }
  void multiply(std::size_t m, std::size_t n, std::size_t k, float alpha, const float* a,
                const float* b, float beta, float* c) const {
    const auto i = [](std::size_t size) { return static_cast<int>(size); };
    sgemm(101, 111, 111, i(m), i(n), i(k), alpha, a, i(k), b, i(n), beta, c, i(n));
  }
  bool there() const { return set_threads != nullptr && axpy != nullptr && sgemm != nullptr; }

  void (*set_threads)(int) = nullptr;
  Axpy axpy = nullptr;
  Sgemm sgemm = nullptr;
};

const Blas& blas() {
  static const Blas one;
  return one;
}

CodeletCase::Part if_blas(CodeletCase::Part part) {
  return blas().there() ? std::move(part) : nullptr;
}

/// With as many threads of its own, as a program would call it.
CodeletCase::Part whole_product(std::size_t n, Memory a, Memory b, Memory c) {
  return if_blas([=](unsigned t, unsigned of) {
    if (t != 0) return;
    blas().set_threads(static_cast<int>(of));
    blas().multiply(n, n, n, 1, a.as<float>(), b.as<float>(), 0, c.as<float>());
    blas().set_threads(1);
  });
}

// ---- cases --------------------------------------------------------------------------------------

using Cases = std::vector<CodeletCase>;

std::uint32_t u32(std::size_t n) {
  return static_cast<std::uint32_t>(n);
}
std::uint32_t word(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

void add_vectors(Cases& cases) {
  constexpr std::size_t n = 16u << 20;  // 64 MiB each
  const Memory x = floats(n), y = floats(n), z = floats(n), sums(n / 256 * sizeof(float));
  const auto share = [](unsigned t, unsigned of) { return part_of(n, t, of); };
  cases.push_back(make("vector_add",
                       Call("vector", "vector_add", {n / 256, 1, 1}, {n}, {{x, 1}, {y, 1}, {z, 2}}),
                       "Highway", BY_HIGHWAY([=](unsigned t, unsigned of) {
                         const Span s = share(t, of);
                         highway::add(x.as<float>() + s.begin, y.as<float>() + s.begin,
                                      z.as<float>() + s.begin, s.size());
                       })));
  cases.push_back(make("axpy",
                       Call("vector", "axpy", {n / 256, 1, 1}, {n, word(1e-9f)}, {{x, 1}, {y, 3}}),
                       "OpenBLAS", if_blas([=](unsigned t, unsigned of) {
                         const Span s = share(t, of);
                         blas().axpy(static_cast<int>(s.size()), 1e-9f, x.as<float>() + s.begin, 1,
                                     y.as<float>() + s.begin, 1);
                       })));
  cases.push_back(make("reduce",
                       Call("vector", "reduce", {n / 1024, 1, 1}, {n}, {{x, 1}, {sums, 2}}),
                       "Highway", BY_HIGHWAY([=](unsigned t, unsigned of) {
                         const Span s = part_of(n / 1024, t, of);
                         for (std::size_t b = s.begin; b < s.end; ++b)
                           sums.as<float>()[b] = highway::sum(x.as<float>() + b * 1024, 1024);
                       })));
  cases.push_back(make("scan",
                       Call("vector", "scan", {n / 256, 1, 1}, {n}, {{x, 1}, {z, 2}, {sums, 2}}),
                       "memcpy", copying(2 * n * sizeof(float))));
  cases.push_back(
      make("scan_add", Call("vector", "scan_add", {n / 256, 1, 1}, {n}, {{sums, 1}, {z, 3}}),
           "Highway", BY_HIGHWAY([=](unsigned t, unsigned of) {
             const Span s = part_of(n / 256, t, of);
             for (std::size_t b = std::max<std::size_t>(s.begin, 1); b < s.end; ++b)
               highway::add_to_all(sums.as<float>()[b - 1], z.as<float>() + b * 256, 256);
           })));
  constexpr std::size_t count = 64u << 20;
  const Memory values = bytes(count), bins(1024);
  cases.push_back(
      make("histogram",
           Call("vector", "histogram", {count / 4096, 1, 1}, {count}, {{values, 1}, {bins, 3}}),
           "four tables", [=](unsigned t, unsigned of) {
             const Span s = part_of(count, t, of);
             std::uint32_t own[4][256] = {};
             for (std::size_t i = s.begin; i < s.end; i += 4)
               for (std::size_t j = 0; j < 4; ++j) ++own[j][values.as<std::uint8_t>()[i + j]];
             for (std::size_t i = 0; i < 256; ++i)
               std::atomic_ref(bins.as<std::uint32_t>()[i]) +=
                   own[0][i] + own[1][i] + own[2][i] + own[3][i];
           }));
}

void add_matrices(Cases& cases) {
  constexpr std::size_t n = 1024;
  const Memory a = floats(n * n), b = floats(n * n), c = floats(n * n);
  cases.push_back(make(
      "sgemm",
      Call("matrix", "sgemm", {n / 64, n / 64, 1}, {n, n, n, word(1), 0}, {{a, 1}, {b, 1}, {c, 3}}),
      "OpenBLAS", whole_product(n, a, b, c)));
  constexpr std::size_t rows = 4096, columns = 1000;
  const Memory x = floats(rows * columns), y = floats(rows * columns);
  const Memory gamma = floats(columns), beta = floats(columns);
  cases.push_back(
      make("softmax", Call("matrix", "softmax", {rows, 1, 1}, {columns}, {{x, 1}, {y, 2}}),
           "Highway", BY_HIGHWAY([=](unsigned t, unsigned of) {
             const Span s = part_of(rows, t, of);
             for (std::size_t r = s.begin; r < s.end; ++r)
               highway::softmax(x.as<float>() + r * columns, y.as<float>() + r * columns, columns);
           })));
  cases.push_back(make("layer_norm",
                       Call("matrix", "layer_norm", {rows, 1, 1}, {columns, word(1e-5f)},
                            {{x, 1}, {gamma, 1}, {beta, 1}, {y, 2}}),
                       "Highway", BY_HIGHWAY([=](unsigned t, unsigned of) {
                         const Span s = part_of(rows, t, of);
                         for (std::size_t r = s.begin; r < s.end; ++r)
                           highway::layer_norm(x.as<float>() + r * columns, gamma.as<float>(),
                                               beta.as<float>(), 1e-5f, y.as<float>() + r * columns,
                                               columns);
                       })));
}

/// The usual way: all that the weights are multiplied with, and then one product of matrices.
void add_convolution(Cases& cases, std::size_t channels, std::size_t filters, std::size_t side) {
  constexpr std::size_t size = 3;
  const std::size_t pixels = side * side, taps = channels * size * size;
  const Memory x = floats(channels * pixels), w = floats(filters * taps),
               y = floats(filters * pixels);
  const Memory spread = floats(taps * pixels), result = floats(filters * pixels);
  const auto peer = [=](unsigned t, unsigned of) {
    const Span rows = part_of(side, t, of);
    const std::size_t count = rows.size() * side;
    float* to = spread.as<float>() + rows.begin * side * taps;
    const float* const own = to;
    for (std::size_t channel = 0; channel < channels; ++channel)
      for (std::size_t i = 0; i < size; ++i)
        for (std::size_t j = 0; j < size; ++j)
          for (std::size_t r = rows.begin; r < rows.end; ++r, to += side) {
            const bool inside = r + i >= 1 && r + i - 1 < side;
            const float* const from =
                x.as<float>() + channel * pixels + (inside ? (r + i - 1) * side : 0);
            std::fill_n(to, side, 0.0f);
            if (inside)
              std::memcpy(to + (j == 0 ? 1 : 0), from + (j == 2 ? 1 : 0),
                          (side - (j == 1 ? 0 : 1)) * sizeof(float));
          }
    blas().multiply(filters, count, taps, 1, w.as<float>(), own, 0,
                    result.as<float>() + rows.begin * side * filters);
  };
  cases.push_back(make(
      "conv2d " + std::to_string(channels) + "x" + std::to_string(filters),
      Call("matrix", "conv2d", {u32(side / 16), u32(side / 16), u32(filters)},
           {u32(channels), u32(side), u32(side), u32(filters), size}, {{x, 1}, {w, 1}, {y, 2}}),
      "spread, OpenBLAS", if_blas(peer)));
}

void add_images(Cases& cases) {
  constexpr std::size_t side = 4096, pixels = side * side;
  const Memory rgb = bytes(pixels * 3), image = bytes(pixels), out = bytes(pixels);
  const std::vector<std::pair<Memory, unsigned>> buffers{{image, 1}, {out, 2}};
  [[maybe_unused]] const auto* const in = image.as<std::uint8_t>();
  [[maybe_unused]] auto* const to = out.as<std::uint8_t>();
  cases.push_back(
      make("grey", Call("image", "grey", {pixels / 256, 1, 1}, {pixels}, {{rgb, 1}, {out, 2}}),
           "Highway", BY_HIGHWAY([=](unsigned t, unsigned of) {
             const Span s = part_of(pixels, t, of);
             highway::grey(rgb.as<std::uint8_t>() + 3 * s.begin, to + s.begin, s.size());
           })));
  for (const std::size_t other : {3000, 6000}) {
    const Memory resized(other * other);
    cases.push_back(make("resize to " + std::to_string(other),
                         Call("image", "resize", {u32(other + 15) / 16, u32(other + 15) / 16, 1},
                              {side, side, u32(other), u32(other)}, {{image, 1}, {resized, 2}}),
                         "", nullptr));
  }
  cases.push_back(make("blur",
                       Call("image", "blur", {side / 16, side / 16, 1}, {side, side}, buffers),
                       "Highway", BY_HIGHWAY([=](unsigned t, unsigned of) {
                         const Span s = part_of(side, t, of);
                         highway::blur(in, to, side, side, s.begin, s.end);
                       })));
  cases.push_back(make("sobel",
                       Call("image", "sobel", {side / 16, side / 16, 1}, {side, side}, buffers),
                       "Highway", BY_HIGHWAY([=](unsigned t, unsigned of) {
                         const Span s = part_of(side, t, of);
                         highway::sobel(in, to, side, side, s.begin, s.end);
                       })));
}

void add_clusters(Cases& cases) {
  constexpr std::size_t n = 1u << 18, dimensions = 32, centres = 64, share = 4096;
  const Memory points = floats(n * dimensions), middle = floats(centres * dimensions);
  const Memory labels = words_below(n, centres), nearest = words_below(n, centres);
  const Memory turned = floats(centres * dimensions), products = floats(n * centres);
  const Memory sums(n / share * centres * dimensions * 4), counts(n / share * centres * 4);
  cases.push_back(make(
      "kmeans_assign",
      Call("kmeans", "kmeans_assign", {n / 256, 1, 1}, {n, dimensions, centres},
           {{points, 1}, {middle, 1}, {nearest, 2}}),
      "OpenBLAS", if_blas([=](unsigned t, unsigned of) {
        // |x - c|^2 is least where |c|^2 / 2 - x c is: other roundings, the same labels but for
        // these.
        const Span s = part_of(n / 1024, t, of);
        for (std::size_t i = s.begin * 1024; i < s.end * 1024; i += 1024) {
          float* const product = products.as<float>() + i * centres;
          blas().multiply(1024, centres, dimensions, -1, points.as<float>() + i * dimensions,
                          turned.as<float>(), 0, product);
          for (std::size_t p = 0; p < 1024; ++p) {
            const float* const row = product + p * centres;
            nearest.as<std::uint32_t>()[i + p] = u32(std::min_element(row, row + centres) - row);
          }
        }
      })));
  cases.push_back(
      make("kmeans_sum",
           Call("kmeans", "kmeans_sum", {n / share, 1, 1}, {n, dimensions, centres, share},
                {{points, 1}, {labels, 1}, {sums, 2}, {counts, 2}}),
           "memcpy", copying(n * dimensions * 4)));
}

void add_halves(Cases& cases) {
  constexpr std::uint16_t one_half = 0x3c00, one_bfloat = 0x3f80;
  constexpr std::size_t n = 16u << 20;
  const Memory wide = floats(n), narrow = halves(n, one_half), bfloats = halves(n, one_bfloat);
  const Memory to(n * 2), to_wide(n * 4);
  const auto convert = [&](const char* name, const Memory& from, const Memory& into,
                           const char* peer, CodeletCase::Part part) {
    cases.push_back(make(name, Call("half", name, {n / 256, 1, 1}, {n}, {{from, 1}, {into, 2}}),
                         peer, std::move(part)));
  };
  convert("to_half", wide, to, "Highway", BY_HIGHWAY([=](unsigned t, unsigned of) {
            const Span s = part_of(n, t, of);
            highway::to_half(wide.as<float>() + s.begin, to.as<std::uint16_t>() + s.begin,
                             s.size());
          }));
  convert("from_half", narrow, to_wide, "Highway", BY_HIGHWAY([=](unsigned t, unsigned of) {
            const Span s = part_of(n, t, of);
            highway::from_half(narrow.as<std::uint16_t>() + s.begin, to_wide.as<float>() + s.begin,
                               s.size());
          }));
  convert("to_bfloat", wide, to, "memcpy", copying(n * 6));
  convert("from_bfloat", bfloats, to_wide, "Highway", BY_HIGHWAY([=](unsigned t, unsigned of) {
            const Span s = part_of(n, t, of);
            highway::from_bfloat(bfloats.as<std::uint16_t>() + s.begin,
                                 to_wide.as<float>() + s.begin, s.size());
          }));
  constexpr std::size_t rows = 4096, columns = 1000;
  const Memory x = halves(rows * columns, one_half), y(rows * columns * 2);
  cases.push_back(make("half_softmax",
                       Call("half", "half_softmax", {rows, 1, 1}, {columns}, {{x, 1}, {y, 2}}), "",
                       nullptr));
  constexpr std::size_t side = 1024;
  const Memory a = floats(side * side), b = floats(side * side), c = floats(side * side);
  const auto product = [&](const char* name, std::uint16_t one) {
    const Memory p = halves(side * side, one), q = halves(side * side, one), r(side * side * 2);
    cases.push_back(make(name,
                         Call("half", name, {side / 64, side / 64, 1},
                              {side, side, side, word(1), 0}, {{p, 1}, {q, 1}, {r, 3}}),
                         "OpenBLAS, of floats", whole_product(side, a, b, c)));
    cases.back().peer_lingers = true;
  };
  product("half_gemm", one_half);
  product("bfloat_gemm", one_bfloat);
}

}  // namespace

std::vector<CodeletCase> codelet_cases() {
  (void)blas();
  Cases cases;
  add_vectors(cases);
  add_matrices(cases);
  add_convolution(cases, 3, 16, 512);
  add_convolution(cases, 64, 64, 128);
  add_convolution(cases, 1, 2, 1024);
  add_images(cases);
  add_clusters(cases);
  add_halves(cases);
  return cases;
}

}  // namespace aios::bench
