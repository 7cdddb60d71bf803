#include "tools/bench/corpus.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>

namespace aios::bench {

namespace {

constexpr std::uint64_t seed = 20240614;
constexpr std::uint64_t bytes_per_word_of_vocabulary = 100;
constexpr unsigned words_per_line = 10;
constexpr std::size_t chunk_bytes = 1u << 20;

/// Word `number`: letters that depend on it alone, then the number, so that no two are the same.
void append_word(std::string& text, std::uint64_t number) {
  constexpr char letters[] = "etaoinshrdlucmfwypvbgkjqxz";
  std::uint64_t mixed = (number + 1) * 0x9e3779b97f4a7c15ull;
  for (std::uint64_t length = 2 + (mixed >> 61); length != 0; --length) {
    text += letters[(mixed & 0xff) % (sizeof letters - 1)];
    mixed >>= 8;
  }
  fmt::format_to(std::back_inserter(text), "{:x}", number);
}

/// The fourth power of a uniform number in [0, 1), of `size`: prefers the front.
std::uint64_t preferred(std::uint64_t uniform, std::uint64_t size) {
  const std::uint64_t half = uniform >> 32;
  const std::uint64_t square = (half * half) >> 32;
  return (((square * square) >> 32) * size) >> 32;
}

}  // namespace

Result<void> make_corpus(const std::string& path, std::uint64_t bytes) {
  const std::string partial = path + ".partial";
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  std::mt19937_64 random(seed);
  const std::uint64_t vocabulary = std::max<std::uint64_t>(bytes / bytes_per_word_of_vocabulary, 1);
  std::string text;
  std::uint64_t written = 0;
  for (std::uint64_t word = 0; written < bytes && out; ++word) {
    append_word(text, word < vocabulary ? word : preferred(random(), vocabulary));
    text += word % words_per_line == words_per_line - 1 ? '\n' : ' ';
    if (text.size() < chunk_bytes && written + text.size() < bytes) continue;
    if (written + text.size() >= bytes) {
      text.resize(bytes - written);
      text.back() = '\n';
    }
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
    written += text.size();
    text.clear();
  }
  out.close();
  if (!out) return errno_error("write " + partial, errno);
  std::error_code failed;
  std::filesystem::rename(partial, path, failed);
  if (failed) return errno_error(path, failed.value());
  return {};
}

Result<void> cut_corpus(const std::string& path, const std::string& folder, std::uint32_t count) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  const std::uint64_t size = std::filesystem::file_size(path, failed);
  if (failed) return errno_error(path, failed.value());
  std::ifstream in(path, std::ios::binary);
  std::string line;
  std::uint64_t taken = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string name = fmt::format("{}/{:04}", folder, i);
    std::ofstream out(name, std::ios::binary | std::ios::trunc);
    while (taken < size * (i + 1) / count && std::getline(in, line)) {
      line += '\n';
      taken += line.size();
      out << line;
    }
    out.close();
    if (!out) return errno_error("write " + name, errno);
  }
  return {};
}

Result<std::string> checksum(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return errno_error(path, errno);
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  XXH3_64bits_reset(state.get());
  std::string chunk(chunk_bytes, '\0');
  while (in.read(chunk.data(), static_cast<std::streamsize>(chunk.size())) || in.gcount() > 0)
    XXH3_64bits_update(state.get(), chunk.data(), static_cast<std::size_t>(in.gcount()));
  return fmt::format("{:016x}", XXH3_64bits_digest(state.get()));
}

}  // namespace aios::bench
