// PTX as text to instructions that can be carried out: exactly the operations that the kernels of
// this tree are compiled to. Anything else is refused by name, never skipped.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "abi/runtime/status.hpp"

namespace aios::cuda_double {

enum class Type : std::uint8_t { none, pred, u8, u16, u32, u64, s16, s32, s64, b32, b64, f32 };

enum class Op : std::uint8_t {
  abs,
  add,
  and_bits,
  atom_add,
  bar,
  bfe,
  bra,
  convert,  ///< cvt, and cvta as a move
  div,
  ex2,
  fma,
  load,
  mad_lo,
  max,
  min,
  mov,
  mul_lo,
  mul_wide,
  neg,
  not_bits,
  or_bits,
  rcp,
  rem,
  ret,
  round_even,  ///< cvt.rni.f32.f32
  selp,
  setp,
  shl,
  shr,
  sqrt,
  store,
  sub,
  trap,
  xor_bits,
};
enum class Space : std::uint8_t { global, shared, param };
/// neu: of floats, and also true when one is not a number.
enum class Compare : std::uint8_t { eq, ne, neu, lt, le, gt, ge };
/// What a register read as an operand may be instead.
enum class Special : std::uint8_t { tid, ntid, ctaid, nctaid };

struct Operand {
  enum class Kind : std::uint8_t { none, reg, immediate, special } kind = Kind::none;
  Special special = Special::tid;
  std::uint8_t axis = 0;        ///< of a special one
  std::uint32_t reg = 0;        ///< of a register
  std::uint64_t immediate = 0;  ///< also the offset of an address without a register
};

struct Instruction {
  Op op;
  Type type = Type::none;
  Type from = Type::none;  ///< of cvt
  Space space = Space::global;
  Compare compare = Compare::eq;
  std::int32_t guard = -1;  ///< a predicate register, or none
  bool guard_inverted = false;
  std::int32_t to = -1;  ///< the register written
  Operand operands[3];
  std::int64_t offset = 0;   ///< of load, store and atom, in bytes
  std::uint32_t target = 0;  ///< of bra
};

struct Parameter {
  std::uint32_t offset;
  std::uint32_t bytes;
};

struct Kernel {
  std::string name;
  std::vector<Parameter> parameters;
  std::uint32_t parameter_bytes = 0;
  std::uint32_t max_threads = 1024;  ///< of a block
  std::uint32_t shared_bytes = 0;
  std::uint32_t registers = 0;
  std::vector<Instruction> code;
};

struct Module {
  std::map<std::string, Kernel, std::less<>> kernels;
};

/// invalid_argument, naming line and reason.
Result<std::unique_ptr<Module>> parse_ptx(std::string_view text);

}  // namespace aios::cuda_double
