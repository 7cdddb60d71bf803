#include "tests/support/cuda_double/ptx.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>

namespace aios::cuda_double {

namespace {

constexpr std::uint32_t max_shared_bytes = 48u << 10;

struct TypeName {
  std::string_view name;
  Type type;
};
constexpr TypeName type_names[] = {{"pred", Type::pred}, {"u8", Type::u8},   {"b8", Type::u8},
                                   {"u16", Type::u16},   {"b16", Type::u16}, {"u32", Type::u32},
                                   {"u64", Type::u64},   {"s16", Type::s16}, {"s32", Type::s32},
                                   {"s64", Type::s64},   {"b32", Type::b32}, {"b64", Type::b64},
                                   {"f32", Type::f32}};

std::optional<Type> type_of(std::string_view name) {
  for (const TypeName& known : type_names)
    if (known.name == name) return known.type;
  return std::nullopt;
}

std::uint32_t bytes_of(Type type) {
  switch (type) {
    case Type::u8:
      return 1;
    case Type::u16:
    case Type::s16:
      return 2;
    case Type::u64:
    case Type::s64:
    case Type::b64:
      return 8;
    default:
      return 4;
  }
}

/// An operation by the first word of its mnemonic; what follows may narrow it down.
struct OpName {
  std::string_view name;
  Op op;
  int operands;  ///< read, beside what is written
  bool writes;
};
constexpr OpName op_names[] = {
    {"abs", Op::abs, 1, true},       {"add", Op::add, 2, true},     {"and", Op::and_bits, 2, true},
    {"atom", Op::atom_add, 1, true}, {"bar", Op::bar, 0, false},    {"bfe", Op::bfe, 3, true},
    {"bra", Op::bra, 0, false},      {"cvt", Op::convert, 1, true}, {"cvta", Op::convert, 1, true},
    {"div", Op::div, 2, true},       {"ex2", Op::ex2, 1, true},     {"exit", Op::ret, 0, false},
    {"fma", Op::fma, 3, true},       {"ld", Op::load, 0, true},     {"mad", Op::mad_lo, 3, true},
    {"max", Op::max, 2, true},       {"min", Op::min, 2, true},     {"mov", Op::mov, 1, true},
    {"mul", Op::mul_lo, 2, true},    {"neg", Op::neg, 1, true},     {"not", Op::not_bits, 1, true},
    {"or", Op::or_bits, 2, true},    {"rcp", Op::rcp, 1, true},     {"rem", Op::rem, 2, true},
    {"ret", Op::ret, 0, false},      {"selp", Op::selp, 3, true},   {"setp", Op::setp, 2, true},
    {"shl", Op::shl, 2, true},       {"shr", Op::shr, 2, true},     {"sqrt", Op::sqrt, 1, true},
    {"st", Op::store, 1, false},     {"sub", Op::sub, 2, true},     {"trap", Op::trap, 0, false},
    {"xor", Op::xor_bits, 2, true}};

constexpr std::pair<std::string_view, Compare> compare_names[] = {
    {"eq", Compare::eq}, {"ne", Compare::ne}, {"neu", Compare::neu}, {"lt", Compare::lt},
    {"le", Compare::le}, {"gt", Compare::gt}, {"ge", Compare::ge}};

constexpr std::pair<std::string_view, Special> special_names[] = {{"%tid", Special::tid},
                                                                  {"%ntid", Special::ntid},
                                                                  {"%ctaid", Special::ctaid},
                                                                  {"%nctaid", Special::nctaid}};

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::string part;
  std::istringstream stream{std::string(text)};
  while (std::getline(stream, part, separator)) {
    const auto begin = part.find_first_not_of(" \t");
    const auto end = part.find_last_not_of(" \t");
    if (begin != std::string::npos) parts.push_back(part.substr(begin, end - begin + 1));
  }
  return parts;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : stream_{std::string(text)} {}
  Result<std::unique_ptr<Module>> parse();

 private:
  struct Jump {
    std::size_t at;
    std::string label;
  };

  /// The next line without comment and surrounding space; false at the end.
  bool next_line(std::string& line);
  Result<void> parse_kernel(std::string head);
  Result<void> parse_parameters(std::string head);
  Result<void> parse_body();
  Result<void> parse_shared(const std::string& line);
  Result<void> parse_instruction(std::string line);
  Result<void> parse_words(Instruction& made, const OpName& op,
                           const std::vector<std::string>& words);
  Result<void> parse_conversion(Instruction& made, const std::vector<std::string>& words);
  Result<void> parse_memory(Instruction& made, const std::vector<std::string>& arguments);
  Result<Operand> parse_operand(const std::string& text);
  Result<void> parse_address(Instruction& made, const std::string& text);
  std::uint32_t register_number(const std::string& name);
  std::unexpected<Status> refuse(const std::string& why) const {
    return error(Code::invalid_argument, "line " + std::to_string(line_number_) + ": " + why);
  }

  std::istringstream stream_;
  int line_number_ = 0;
  std::unique_ptr<Module> module_ = std::make_unique<Module>();
  // Of the kernel being read.
  Kernel kernel_;
  std::map<std::string, std::uint32_t> registers_;
  std::map<std::string, std::uint64_t> symbols_;  ///< shared variables and parameters: addresses
  std::map<std::string, std::uint32_t> labels_;
  std::vector<Jump> jumps_;
};

bool Parser::next_line(std::string& line) {
  while (std::getline(stream_, line)) {
    ++line_number_;
    line = line.substr(0, line.find("//"));
    const auto begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos) continue;
    line = line.substr(begin, line.find_last_not_of(" \t\r") - begin + 1);
    return true;
  }
  return false;
}

Result<std::unique_ptr<Module>> Parser::parse() {
  std::string line;
  bool version = false;
  while (next_line(line)) {
    if (line.starts_with(".version ")) {
      version = true;
    } else if (line.starts_with(".visible .entry ") || line.starts_with(".entry ")) {
      TRY(parse_kernel(line));
    } else if (!line.starts_with(".target ") && !line.starts_with(".address_size ")) {
      return refuse("unknown directive: " + line);
    }
  }
  if (!version) return refuse("no .version: this is not PTX");
  return std::move(module_);
}

Result<void> Parser::parse_kernel(std::string head) {
  kernel_ = {};
  registers_.clear();
  symbols_.clear();
  labels_.clear();
  jumps_.clear();
  TRY(parse_parameters(std::move(head)));
  TRY(parse_body());
  for (const Jump& jump : jumps_) {
    const auto label = labels_.find(jump.label);
    if (label == labels_.end()) return refuse("no label " + jump.label + " in " + kernel_.name);
    kernel_.code[jump.at].target = label->second;
  }
  kernel_.code.push_back({.op = Op::ret});
  kernel_.registers = static_cast<std::uint32_t>(registers_.size());
  module_->kernels.emplace(kernel_.name, std::move(kernel_));
  return {};
}

/// `.visible .entry name(` and a parameter a line: `.param .u64 n` or `.param .align 4 .b8 n[8]`.
Result<void> Parser::parse_parameters(std::string head) {
  const auto open = head.find('(');
  if (open == std::string::npos) return refuse("a kernel without parameters");
  const auto name = head.find_last_of(" \t", open) + 1;
  kernel_.name = head.substr(name, open - name);
  std::string line;
  while (next_line(line) && line != ")") {
    const auto words = split(line, ' ');
    if (words.size() < 3 || words[0] != ".param") return refuse("not a parameter: " + line);
    const bool aligned = words[1] == ".align";
    const auto type = type_of(words[aligned ? 3 : 1].substr(1));
    if (!type) return refuse("unknown type of a parameter: " + line);
    std::string its_name = words.back().substr(0, words.back().find(','));
    std::uint32_t count = 1;
    if (const auto bracket = its_name.find('['); bracket != std::string::npos) {
      count = static_cast<std::uint32_t>(std::stoul(its_name.substr(bracket + 1)));
      its_name.resize(bracket);
    }
    const std::uint32_t bytes = bytes_of(*type) * count;
    const std::uint32_t align = aligned ? static_cast<std::uint32_t>(std::stoul(words[2])) : bytes;
    const std::uint32_t offset = (kernel_.parameter_bytes + align - 1) / align * align;
    kernel_.parameters.push_back({offset, bytes});
    kernel_.parameter_bytes = offset + bytes;
    symbols_[its_name] = offset;
  }
  return {};
}

Result<void> Parser::parse_body() {
  std::string line;
  while (next_line(line)) {
    if (line == "}") return {};
    if (line == "{" || line.starts_with(".reg ") || line.starts_with(".pragma ")) continue;
    if (line.starts_with(".maxntid ")) {
      kernel_.max_threads = 1;
      for (const std::string& size : split(line.substr(9), ','))
        kernel_.max_threads *= static_cast<std::uint32_t>(std::stoul(size));
    } else if (line.starts_with(".shared ")) {
      TRY(parse_shared(line));
    } else if (line.ends_with(":")) {
      labels_[line.substr(0, line.size() - 1)] = static_cast<std::uint32_t>(kernel_.code.size());
    } else {
      TRY(parse_instruction(line));
    }
  }
  return refuse("the file ends within " + kernel_.name);
}

/// `.shared .align 4 .b8 name[1024];`
Result<void> Parser::parse_shared(const std::string& line) {
  const auto words = split(line.substr(0, line.find(';')), ' ');
  if (words.size() != 5 || words[1] != ".align") return refuse("unknown declaration: " + line);
  const auto type = type_of(words[3].substr(1));
  if (!type) return refuse("unknown type: " + line);
  std::string name = words[4];
  std::uint32_t count = 1;
  if (const auto bracket = name.find('['); bracket != std::string::npos) {
    count = static_cast<std::uint32_t>(std::stoul(name.substr(bracket + 1)));
    name.resize(bracket);
  }
  const auto align = static_cast<std::uint32_t>(std::stoul(words[2]));
  const std::uint32_t offset = (kernel_.shared_bytes + align - 1) / align * align;
  kernel_.shared_bytes = offset + bytes_of(*type) * count;
  if (kernel_.shared_bytes > max_shared_bytes) return refuse("more than 48 KiB of shared memory");
  symbols_[name] = offset;
  return {};
}

std::uint32_t Parser::register_number(const std::string& name) {
  return registers_.try_emplace(name, static_cast<std::uint32_t>(registers_.size())).first->second;
}

Result<Operand> Parser::parse_operand(const std::string& text) {
  for (const auto& [name, special] : special_names)
    if (text.starts_with(name) && text.size() == name.size() + 2 && text[name.size()] == '.')
      return Operand{.kind = Operand::Kind::special,
                     .special = special,
                     .axis = static_cast<std::uint8_t>(text.back() - 'x')};
  if (text.starts_with("%"))
    return Operand{.kind = Operand::Kind::reg, .reg = register_number(text)};
  if (const auto symbol = symbols_.find(text); symbol != symbols_.end())
    return Operand{.kind = Operand::Kind::immediate, .immediate = symbol->second};
  const bool bits = text.starts_with("0f") || text.starts_with("0x");
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  if (bits) {
    if (std::from_chars(text.data() + 2, end, value, 16).ptr != end)
      return refuse("unknown operand " + text);
  } else {
    std::int64_t number = 0;
    if (std::from_chars(text.data(), end, number).ptr != end)
      return refuse("unknown operand " + text);
    value = static_cast<std::uint64_t>(number);
  }
  return Operand{.kind = Operand::Kind::immediate, .immediate = value};
}

/// `[%rd1]`, `[%rd1+4]`, `[%rd1+-4]`, `[name]`, `[name+4]`
Result<void> Parser::parse_address(Instruction& made, const std::string& text) {
  if (!text.starts_with("[") || !text.ends_with("]")) return refuse("not an address: " + text);
  std::string base = text.substr(1, text.size() - 2);
  if (const auto plus = base.find('+'); plus != std::string::npos) {
    const std::string offset = base.substr(plus + 1);
    const char* const end = offset.data() + offset.size();
    if (std::from_chars(offset.data(), end, made.offset).ptr != end)
      return refuse("unknown offset " + offset);
    base.resize(plus);
  }
  made.operands[0] = TRY(parse_operand(base));
  return {};
}

Result<void> Parser::parse_instruction(std::string line) {
  if (!line.ends_with(";")) return refuse("not an instruction: " + line);
  line.pop_back();
  Instruction made{.op = Op::ret};
  if (line.starts_with("@")) {
    const auto space = line.find_first_of(" \t");
    made.guard_inverted = line[1] == '!';
    const auto from = made.guard_inverted ? 2 : 1;
    made.guard = static_cast<std::int32_t>(register_number(line.substr(from, space - from)));
    line = line.substr(line.find_first_not_of(" \t", space));
  }
  const auto space = line.find_first_of(" \t");
  const auto words = split(line.substr(0, space), '.');
  const auto arguments =
      space == std::string::npos ? std::vector<std::string>{} : split(line.substr(space), ',');
  const auto* op = std::ranges::find(op_names, words[0], &OpName::name);
  if (op == std::end(op_names)) return refuse("unknown instruction " + words[0]);
  made.op = op->op;
  TRY(parse_words(made, *op, words));
  if (made.op == Op::bra) {
    if (arguments.size() != 1) return refuse("bra takes a label");
    jumps_.push_back({kernel_.code.size(), arguments[0]});
  } else if (made.op == Op::load || made.op == Op::store || made.op == Op::atom_add) {
    TRY(parse_memory(made, arguments));
  } else if (made.op != Op::bar) {
    const auto expected = static_cast<std::size_t>(op->operands) + (op->writes ? 1 : 0);
    if (arguments.size() != expected) return refuse("wrong number of operands: " + line);
    if (op->writes) made.to = static_cast<std::int32_t>(register_number(arguments[0]));
    for (int i = 0; i < op->operands; ++i)
      made.operands[i] =
          TRY(parse_operand(arguments[static_cast<std::size_t>(i) + (op->writes ? 1 : 0)]));
  }
  kernel_.code.push_back(made);
  return {};
}

/// The parts of a mnemonic after its first: types, and what else is known of this operation.
Result<void> Parser::parse_words(Instruction& made, const OpName& op,
                                 const std::vector<std::string>& words) {
  if (op.name == "cvt") return parse_conversion(made, words);
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string& word = words[i];
    const auto* compare =
        std::ranges::find(compare_names, word, &std::pair<std::string_view, Compare>::first);
    if (const auto type = type_of(word))
      made.type = *type;
    else if (word == "global" || word == "shared" || word == "param")
      made.space = word == "global"   ? Space::global
                   : word == "shared" ? Space::shared
                                      : Space::param;
    else if (made.op == Op::setp && compare != std::end(compare_names))
      made.compare = compare->second;
    else if (word == "wide" && made.op == Op::mul_lo)
      made.op = Op::mul_wide;
    else if (!((word == "rn" && made.type == Type::none) ||
               (word == "lo" && (made.op == Op::mul_lo || made.op == Op::mad_lo)) ||
               ((word == "nc" || word == "volatile") && made.op == Op::load) ||
               (word == "volatile" && made.op == Op::store) ||
               (word == "to" && op.name == "cvta") || (word == "sync" && made.op == Op::bar) ||
               (word == "uni" && made.op == Op::bra) ||
               (word == "add" && made.op == Op::atom_add) ||
               ((word == "approx" || word == "ftz") && made.op == Op::ex2)))
      return refuse("unknown part ." + word + " of " + words[0]);
  }
  if (op.name == "cvta") made.from = made.type;
  if (made.op == Op::atom_add && made.type != Type::u32)
    return refuse("atom is known for u32 only");
  if (made.op == Op::bfe && made.type != Type::u32) return refuse("bfe is known for u32 only");
  const bool needs_type = op.operands != 0 || made.op == Op::load;
  if (needs_type && made.type == Type::none) return refuse(words[0] + " without a type");
  return {};
}

/// cvt.TO.FROM, cvt.rn.f32.INT, cvt.rzi.INT.f32, cvt.rni.f32.f32
Result<void> Parser::parse_conversion(Instruction& made, const std::vector<std::string>& words) {
  std::vector<std::string> rest(words.begin() + 1, words.end());
  std::string rounding;
  if (!rest.empty() && !type_of(rest[0])) {
    rounding = rest[0];
    rest.erase(rest.begin());
  }
  const auto to = rest.size() == 2 ? type_of(rest[0]) : std::nullopt;
  const auto from = rest.size() == 2 ? type_of(rest[1]) : std::nullopt;
  if (!to || !from) return refuse("unknown conversion");
  made.type = *to;
  made.from = *from;
  const bool to_float = made.type == Type::f32;
  const bool from_float = made.from == Type::f32;
  const char* const expected = to_float && from_float ? "rni"
                               : to_float             ? "rn"
                               : from_float           ? "rzi"
                                                      : "";
  if (rounding != expected) return refuse("unknown rounding ." + rounding + " of a conversion");
  if (to_float && from_float) made.op = Op::round_even;
  return {};
}

Result<void> Parser::parse_memory(Instruction& made, const std::vector<std::string>& arguments) {
  const std::size_t expected = made.op == Op::atom_add ? 3 : 2;
  if (arguments.size() != expected) return refuse("wrong number of operands of a memory access");
  if (made.space == Space::param && made.op != Op::load) return refuse("parameters are read only");
  if (made.op == Op::store) {
    TRY(parse_address(made, arguments[0]));
    made.operands[1] = TRY(parse_operand(arguments[1]));
    return {};
  }
  made.to = static_cast<std::int32_t>(register_number(arguments[0]));
  TRY(parse_address(made, arguments[1]));
  if (made.op == Op::atom_add) made.operands[1] = TRY(parse_operand(arguments[2]));
  return {};
}

}  // namespace

Result<std::unique_ptr<Module>> parse_ptx(std::string_view text) {
  try {
    return Parser(text).parse();
  } catch (const std::exception&) {
    // std::stoul, of a number that is none.
    return error(Code::invalid_argument, "a number that is none");
  }
}

}  // namespace aios::cuda_double
