#include "tests/support/cuda_double/machine.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace aios::cuda_double {

void DeviceMemory::add(std::uint64_t address, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  parts_[address] = bytes;
}

void DeviceMemory::remove(std::uint64_t address) {
  const std::lock_guard lock(mutex_);
  parts_.erase(address);
}

bool DeviceMemory::contains(std::uint64_t address, std::uint64_t bytes) const {
  const std::lock_guard lock(mutex_);
  auto part = parts_.upper_bound(address);
  if (part == parts_.begin()) return false;
  --part;
  return address - part->first <= part->second && bytes <= part->second - (address - part->first);
}

namespace {

constexpr std::uint32_t steps_between_stops = 65536;

float as_float(std::uint64_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits));
}
std::uint64_t as_bits(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

bool is_signed(Type type) {
  return type == Type::s16 || type == Type::s32 || type == Type::s64;
}

std::uint32_t width_of(Type type) {
  switch (type) {
    case Type::u8:
      return 8;
    case Type::u16:
    case Type::s16:
      return 16;
    case Type::u64:
    case Type::s64:
    case Type::b64:
      return 64;
    case Type::pred:
      return 1;
    default:
      return 32;
  }
}

/// The bits of `value` that this type has.
std::uint64_t narrow(std::uint64_t value, Type type) {
  const std::uint32_t width = width_of(type);
  return width == 64 ? value : value & ((std::uint64_t{1} << width) - 1);
}

/// As a number of this type, widened with its sign when it has one.
std::int64_t widen(std::uint64_t value, Type type) {
  const std::uint32_t width = width_of(type);
  if (width == 64 || !is_signed(type)) return static_cast<std::int64_t>(narrow(value, type));
  const std::uint32_t unused = 64 - width;
  return static_cast<std::int64_t>(value << unused) >> unused;
}

template <class T>
bool holds(Compare compare, T a, T b) {
  switch (compare) {
    case Compare::eq:
      return a == b;
    case Compare::ne:
      return a < b || a > b;
    case Compare::neu:
      return a != b;
    case Compare::lt:
      return a < b;
    case Compare::le:
      return a <= b;
    case Compare::gt:
      return a > b;
    case Compare::ge:
      return a >= b;
  }
  return false;
}

struct Thread {
  std::uint32_t at = 0;
  bool ended = false;
  std::array<std::uint32_t, 3> index{};
  std::vector<std::uint64_t> registers;
};

class Block {
 public:
  Block(const Launch& launch, const DeviceMemory& memory, const std::atomic<bool>& stop);
  Outcome run(std::array<std::uint32_t, 3> index);

 private:
  /// To the next barrier or the end. `done` for either.
  Outcome run_thread(Thread& thread);
  Outcome step(Thread& thread, const Instruction& instruction);
  std::uint64_t value(const Thread& thread, const Operand& operand) const;
  std::uint64_t compute(const Thread& thread, const Instruction& instruction) const;
  std::uint64_t compute_integer(const Instruction& instruction, std::uint64_t a, std::uint64_t b,
                                std::uint64_t c) const;
  std::uint64_t compute_float(const Instruction& instruction, float a, float b, float c) const;
  static std::uint64_t convert(const Instruction& instruction, std::uint64_t from);
  std::byte* locate(const Thread& thread, const Instruction& instruction, std::uint32_t bytes);

  const Launch& launch_;
  const DeviceMemory& memory_;
  const std::atomic<bool>& stop_;
  std::array<std::uint32_t, 3> index_{};
  std::vector<std::byte> shared_;
  std::vector<Thread> threads_;
};

Block::Block(const Launch& launch, const DeviceMemory& memory, const std::atomic<bool>& stop)
    : launch_(launch), memory_(memory), stop_(stop), shared_(launch.kernel->shared_bytes) {
  const auto [x, y, z] = launch.block;
  threads_.resize(std::size_t{x} * y * z);
  for (std::size_t i = 0; i < threads_.size(); ++i)
    threads_[i].index = {static_cast<std::uint32_t>(i % x), static_cast<std::uint32_t>(i / x % y),
                         static_cast<std::uint32_t>(i / x / y)};
}

Outcome Block::run(std::array<std::uint32_t, 3> index) {
  index_ = index;
  std::ranges::fill(shared_, std::byte{0xAB});  // not what a kernel may rely on
  for (Thread& thread : threads_) {
    thread.at = 0;
    thread.ended = false;
    thread.registers.assign(launch_.kernel->registers, 0);
  }
  for (bool running = true; running;) {
    running = false;
    for (Thread& thread : threads_) {
      if (thread.ended) continue;
      if (const Outcome outcome = run_thread(thread); outcome != Outcome::done) return outcome;
      running = running || !thread.ended;
    }
  }
  return Outcome::done;
}

Outcome Block::run_thread(Thread& thread) {
  for (std::uint32_t steps = 1;; ++steps) {
    if (steps % steps_between_stops == 0 && stop_.load(std::memory_order_relaxed))
      return Outcome::stopped;
    const Instruction& instruction = launch_.kernel->code[thread.at++];
    if (instruction.guard >= 0) {
      const bool holds = thread.registers[static_cast<std::size_t>(instruction.guard)] != 0;
      if (holds == instruction.guard_inverted) continue;
    }
    switch (instruction.op) {
      case Op::bar:
        return Outcome::done;
      case Op::ret:
        thread.ended = true;
        return Outcome::done;
      case Op::trap:
        return Outcome::trapped;
      case Op::bra:
        thread.at = instruction.target;
        break;
      default:
        if (const Outcome outcome = step(thread, instruction); outcome != Outcome::done)
          return outcome;
    }
  }
}

Outcome Block::step(Thread& thread, const Instruction& instruction) {
  if (instruction.op != Op::load && instruction.op != Op::store && instruction.op != Op::atom_add) {
    thread.registers[static_cast<std::size_t>(instruction.to)] = compute(thread, instruction);
    return Outcome::done;
  }
  const std::uint32_t bytes = width_of(instruction.type) / 8;
  std::byte* const place = locate(thread, instruction, bytes);
  if (place == nullptr) return Outcome::illegal_address;
  std::uint64_t old = 0;
  if (instruction.op != Op::store) {
    std::memcpy(&old, place, bytes);
    thread.registers[static_cast<std::size_t>(instruction.to)] = old;
  }
  if (instruction.op == Op::load) return Outcome::done;
  const std::uint64_t given = value(thread, instruction.operands[1]);
  const std::uint64_t next = instruction.op == Op::atom_add ? old + given : given;
  std::memcpy(place, &next, bytes);
  return Outcome::done;
}

/// Null where there is nothing to access. Misaligned accesses are illegal, too.
std::byte* Block::locate(const Thread& thread, const Instruction& instruction,
                         std::uint32_t bytes) {
  const std::uint64_t address =
      value(thread, instruction.operands[0]) + static_cast<std::uint64_t>(instruction.offset);
  if (address % bytes != 0) return nullptr;
  const auto within = [&](const std::vector<std::byte>& part) {
    return address <= part.size() && bytes <= part.size() - address;
  };
  switch (instruction.space) {
    case Space::shared:
      return within(shared_) ? shared_.data() + address : nullptr;
    case Space::param:
      return within(launch_.parameters)
                 ? const_cast<std::byte*>(launch_.parameters.data()) + address
                 : nullptr;
    case Space::global:
      return memory_.contains(address, bytes) ? reinterpret_cast<std::byte*>(address) : nullptr;
  }
  return nullptr;
}

std::uint64_t Block::value(const Thread& thread, const Operand& operand) const {
  switch (operand.kind) {
    case Operand::Kind::reg:
      return thread.registers[operand.reg];
    case Operand::Kind::immediate:
      return operand.immediate;
    case Operand::Kind::special:
      switch (operand.special) {
        case Special::tid:
          return thread.index[operand.axis];
        case Special::ntid:
          return launch_.block[operand.axis];
        case Special::ctaid:
          return index_[operand.axis];
        case Special::nctaid:
          return launch_.grid[operand.axis];
      }
      return 0;
    case Operand::Kind::none:
      return 0;
  }
  return 0;
}

std::uint64_t Block::compute(const Thread& thread, const Instruction& instruction) const {
  const std::uint64_t a = value(thread, instruction.operands[0]);
  const std::uint64_t b = value(thread, instruction.operands[1]);
  const std::uint64_t c = value(thread, instruction.operands[2]);
  switch (instruction.op) {
    case Op::convert:
      return convert(instruction, a);
    case Op::mov:
      return narrow(a, instruction.type == Type::f32 ? Type::u32 : instruction.type);
    case Op::selp:
      return narrow(c != 0 ? a : b, instruction.type);
    case Op::mul_wide:
      return static_cast<std::uint64_t>(widen(a, instruction.type)) *
             static_cast<std::uint64_t>(widen(b, instruction.type));
    case Op::setp:
      if (instruction.type == Type::f32)
        return holds(instruction.compare, as_float(a), as_float(b)) ? 1 : 0;
      if (is_signed(instruction.type))
        return holds(instruction.compare, widen(a, instruction.type), widen(b, instruction.type));
      return holds(instruction.compare, narrow(a, instruction.type), narrow(b, instruction.type));
    default:
      if (instruction.type == Type::f32)
        return compute_float(instruction, as_float(a), as_float(b), as_float(c));
      return narrow(compute_integer(instruction, a, b, c), instruction.type);
  }
}

std::uint64_t Block::compute_float(const Instruction& instruction, float a, float b,
                                   float c) const {
  switch (instruction.op) {
    case Op::abs:
      return as_bits(std::fabs(a));
    case Op::add:
      return as_bits(a + b);
    case Op::sub:
      return as_bits(a - b);
    case Op::mul_lo:
      return as_bits(a * b);
    case Op::div:
      return as_bits(a / b);
    case Op::fma:
      return as_bits(std::fmaf(a, b, c));
    case Op::max:
      return as_bits(std::fmaxf(a, b));
    case Op::min:
      return as_bits(std::fminf(a, b));
    case Op::neg:
      return as_bits(-a);
    case Op::rcp:
      return as_bits(1.0f / a);
    case Op::sqrt:
      return as_bits(std::sqrt(a));
    case Op::ex2:
      return as_bits(std::exp2f(a));
    case Op::round_even:
      return as_bits(std::nearbyintf(a));
    default:
      return 0;
  }
}

std::uint64_t Block::compute_integer(const Instruction& instruction, std::uint64_t a,
                                     std::uint64_t b, std::uint64_t c) const {
  const Type type = instruction.type;
  const std::int64_t sa = widen(a, type);
  const std::int64_t sb = widen(b, type);
  const std::uint64_t ua = narrow(a, type);
  const std::uint64_t ub = narrow(b, type);
  const std::uint32_t width = width_of(type);
  switch (instruction.op) {
    case Op::abs:
      return static_cast<std::uint64_t>(sa < 0 ? -sa : sa);
    case Op::add:
      return a + b;
    case Op::sub:
      return a - b;
    case Op::mul_lo:
      return a * b;
    case Op::mad_lo:
      return a * b + c;
    case Op::neg:
      return -a;
    case Op::bfe: {
      const std::uint64_t from = b & 0xff;
      const std::uint64_t bits = c & 0xff;
      const std::uint64_t mask = bits >= 32 ? 0xffffffff : (std::uint64_t{1} << bits) - 1;
      return from >= 32 ? 0 : ua >> from & mask;
    }
    case Op::and_bits:
      return a & b;
    case Op::or_bits:
      return a | b;
    case Op::xor_bits:
      return a ^ b;
    // Of a predicate, too, whose one bit is kept.
    case Op::not_bits:
      return ~a;
    // A distance beyond the width shifts everything out.
    case Op::shl:
      return (b & 0xffffffff) >= width ? 0 : a << (b & 63);
    case Op::shr:
      if (is_signed(type))
        return static_cast<std::uint64_t>(sa >> std::min<std::uint64_t>(b & 0xffffffff, width - 1));
      return (b & 0xffffffff) >= width ? 0 : ua >> (b & 63);
    // By zero: all ones, as the hardware does.
    case Op::div:
      if (ub == 0) return ~std::uint64_t{0};
      return is_signed(type) ? sb == -1 ? 0 - a : static_cast<std::uint64_t>(sa / sb) : ua / ub;
    case Op::rem:
      if (ub == 0) return a;
      return is_signed(type) ? sb == -1 ? 0 : static_cast<std::uint64_t>(sa % sb) : ua % ub;
    case Op::max:
      return is_signed(type) ? (sa > sb ? a : b) : (ua > ub ? a : b);
    case Op::min:
      return is_signed(type) ? (sa < sb ? a : b) : (ua < ub ? a : b);
    default:
      return 0;
  }
}

std::uint64_t Block::convert(const Instruction& instruction, std::uint64_t from) {
  if (instruction.type == Type::f32) {
    const std::int64_t number = widen(from, instruction.from);
    if (instruction.from == Type::u64) return as_bits(static_cast<float>(from));
    return as_bits(static_cast<float>(number));
  }
  if (instruction.from != Type::f32)
    return narrow(static_cast<std::uint64_t>(widen(from, instruction.from)), instruction.type);
  // Towards zero; what does not fit becomes the nearest that does, and nan zero.
  const double number = std::trunc(static_cast<double>(as_float(from)));
  if (std::isnan(number)) return 0;
  const bool negative = is_signed(instruction.type);
  const std::uint32_t width = width_of(instruction.type);
  const double most = std::ldexp(1.0, static_cast<int>(negative ? width - 1 : width));
  const double least = negative ? -most : 0.0;
  if (number <= least)
    return narrow(static_cast<std::uint64_t>(static_cast<std::int64_t>(least)), instruction.type);
  if (number >= most)
    return negative ? (std::uint64_t{1} << (width - 1)) - 1
                    : narrow(~std::uint64_t{0}, instruction.type);
  return narrow(negative ? static_cast<std::uint64_t>(static_cast<std::int64_t>(number))
                         : static_cast<std::uint64_t>(number),
                instruction.type);
}

}  // namespace

Outcome run(const Launch& launch, const DeviceMemory& memory, const std::atomic<bool>& stop) {
  Block block(launch, memory, stop);
  for (std::uint32_t z = 0; z < launch.grid[2]; ++z)
    for (std::uint32_t y = 0; y < launch.grid[1]; ++y)
      for (std::uint32_t x = 0; x < launch.grid[0]; ++x)
        if (const Outcome outcome = block.run({x, y, z}); outcome != Outcome::done) return outcome;
  return Outcome::done;
}

}  // namespace aios::cuda_double
