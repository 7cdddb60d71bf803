// The cases of `bench devices`: the same codelets on the same device through AIOS and by the same
// backend alone, beside what the machine can do. Apart from what uses libaios or the runtime: their
// names are the same. Everything here throws std::runtime_error.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace aios::bench {

struct BenchDevice {
  std::uint32_t index;  ///< as the scheduler counts
  std::string kind;
  std::string backend;
  std::string model;
  std::string uuid;
  std::uint32_t threads;
  std::uint64_t memory_bytes;
  bool emulated;  ///< its speed means nothing
};

/// What each float of a buffer is at first; as two numbers of 16 bits they are finite, too.
inline constexpr float first_number = 0.5f;

/// A codelet and what it is called with.
struct Workload {
  std::string module;  ///< of the standard ones: "vector"
  std::string codelet;
  std::array<std::uint32_t, 3> grid;
  std::vector<std::byte> arguments;
  struct Buffer {
    std::uint64_t bytes;
    std::uint32_t mode;
  };
  std::vector<Buffer> buffers;
};
Workload one_block();
/// c = a + b of `n` floats each.
Workload stream(std::uint32_t n);
/// A product of square matrices, of which cuBLAS has one, too.
struct Product {
  enum class Element { f32, f16, bf16 };
  const char* codelet;
  const char* module;
  Element element;
  std::uint32_t bytes;  ///< of an element
};
inline constexpr Product products[] = {
    {"sgemm", "matrix", Product::Element::f32, 4},
    {"half_gemm", "half", Product::Element::f16, 2},
    {"bfloat_gemm", "half", Product::Element::bf16, 2},
};
Workload product(const Product& product, std::uint32_t n);

/// A workload whose module is loaded and whose buffers are there.
class Prepared {
 public:
  virtual ~Prepared() = default;
  /// `count` times, each when the one before has ended, or all handed over at once. In nanoseconds.
  virtual std::uint64_t run(std::size_t count, bool at_once) = 0;
  /// What the tasks of the last run took by themselves, as completions say; 0: unknown.
  virtual std::uint64_t device_ns() const { return 0; }
};

/// One way to one device.
class Way {
 public:
  virtual ~Way() = default;
  virtual std::unique_ptr<Prepared> prepare(const Workload& workload) = 0;
};

/// An application of a job of its own, whose context is made to crash.
class Crasher {
 public:
  virtual ~Crasher() = default;
  /// From the answer that a task has crashed its context to the end of the next task, in the
  /// context that takes its place.
  virtual std::uint64_t ready_again_ns() = 0;
};

/// A process of its own that has memory of a CUDA device.
class Holder {
 public:
  virtual ~Holder() = default;
  virtual int pid() const = 0;
  /// Whether that memory, asked for on the device, holds what it should.
  virtual bool is_intact() = 0;
};
/// A context of an application's, whose memory the owner of its tenant's has made.
std::unique_ptr<Holder> holder_in_context(const std::string& socket, const std::string& codelets,
                                          const BenchDevice& device);
/// A process of nothing else, with memory of its own. `hold_cuda_memory` is what it does.
std::unique_ptr<Holder> holder_alone(const BenchDevice& device);
/// Answers at standard output each line of standard input, until that ends.
int hold_cuda_memory(const std::string& uuid);

/// Of the instance at `socket`, once its drivers have looked for them.
std::vector<BenchDevice> list_devices(const std::string& socket);
/// The contexts of GPUs there are: what the kernel of AIOS calls each, and what the host does.
std::map<std::uint64_t, int> list_contexts(const std::string& socket);
/// As an application, through scheduler and context. `codelets`: folder of the standard modules.
std::unique_ptr<Way> through(const std::string& socket, const std::string& codelets,
                             const BenchDevice& device);
std::unique_ptr<Crasher> crasher(const std::string& socket, const std::string& codelets,
                                 const BenchDevice& device);
/// The device's backend in this process, without scheduler, context and messages.
std::unique_ptr<Way> direct(const std::string& codelets, const BenchDevice& device);

/// A CUDA device by its driver's functions and by cuBLAS alone: what the backend is made of.
class BareCuda {
 public:
  virtual ~BareCuda() = default;
  /// Of the kernel of `one_block`, each waited for or all at once.
  virtual std::uint64_t launches_ns(std::size_t count, bool at_once) = 0;
  /// What `stream` has to copy: two arrays there and one back, from registered memory.
  virtual std::uint64_t copies_ns(std::uint64_t bytes) = 0;
  /// A product of what is on the device, by cuBLAS, as the device's clock tells; nothing: it is not
  /// there.
  virtual std::optional<std::uint64_t> product_ns(const Product& product, std::uint32_t n) = 0;
  /// Why there is no cuBLAS; empty: there is.
  virtual std::string no_cublas() const = 0;

  struct Parked {
    std::uint64_t park_ns;      ///< until its memory of the device was the host's
    std::uint64_t resume_ns;    ///< until it could work again
    std::uint64_t freed_bytes;  ///< of the device, meanwhile
  };
  /// Whether the driver can park processes (cuCheckpointProcess*, since CUDA 12.8).
  virtual bool can_park() const = 0;
  virtual Parked park_and_resume(int process) = 0;
};
std::unique_ptr<BareCuda> bare_cuda(const std::string& codelets, const BenchDevice& device);

/// Threads that add as `stream` does, each pinned to a core of its own, and nothing else.
std::uint64_t bare_stream_ns(std::uint32_t n, std::uint32_t threads);

/// OpenBLAS called directly, with threads of its own; in this process it has one otherwise.
class OpenBlas {
 public:
  bool available() const { return call_ != nullptr; }
  OpenBlas();
  std::uint64_t sgemm_ns(std::uint32_t n, std::uint32_t threads);

 private:
  void* call_ = nullptr;
  void (*set_threads_)(int) = nullptr;
  std::vector<float> a_, b_, c_;
};

}  // namespace aios::bench
