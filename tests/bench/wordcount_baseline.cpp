// What word count is measured beside: threads that each count half of the file in a hash table of
// their own, then merge, sort and write. No isolation, no memory limit, no recovery.
//
// usage: wordcount-baseline FILE OUTPUT [THREADS]      prints the seconds it took
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <tsl/robin_map.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

struct Hash {
  std::size_t operator()(std::string_view key) const { return XXH3_64bits(key.data(), key.size()); }
};
/// Hashes are kept, so that growing does not read the words again.
using Counts = tsl::robin_map<std::string_view, std::uint64_t, Hash, std::equal_to<>,
                              std::allocator<std::pair<std::string_view, std::uint64_t>>, true>;

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

void count(std::string_view text, Counts& counts) {
  for (std::size_t i = 0; i < text.size();) {
    while (i < text.size() && is_space(text[i])) ++i;
    const std::size_t begin = i;
    while (i < text.size() && !is_space(text[i])) ++i;
    if (i > begin) ++counts[text.substr(begin, i - begin)];
  }
}

/// Cuts the text into as many parts as there are tables, between words.
void count_all(std::string_view text, std::vector<Counts>& tables) {
  std::vector<std::thread> threads;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < tables.size(); ++i) {
    std::size_t end = std::max(begin, text.size() * (i + 1) / tables.size());
    while (end < text.size() && !is_space(text[end])) ++end;
    threads.emplace_back(count, text.substr(begin, end - begin), std::ref(tables[i]));
    begin = end;
  }
  for (std::thread& thread : threads) thread.join();
}

struct Line {
  std::uint64_t prefix;  ///< first eight bytes, in their order: most comparisons end here
  std::string_view word;
  std::uint64_t number;

  bool operator<(const Line& other) const {
    return prefix != other.prefix ? prefix < other.prefix : word < other.word;
  }
};

/// Each half by a thread, then merged.
std::vector<Line> sorted_lines(const Counts& counts) {
  std::vector<Line> lines;
  lines.reserve(counts.size());
  for (const auto& [word, number] : counts) {
    char bytes[8] = {};
    word.copy(bytes, sizeof bytes);
    std::uint64_t prefix;
    std::memcpy(&prefix, bytes, sizeof prefix);
    lines.push_back({__builtin_bswap64(prefix), word, number});
  }
  const auto middle = lines.begin() + static_cast<std::ptrdiff_t>(lines.size() / 2);
  std::thread first([&] { std::sort(lines.begin(), middle); });
  std::sort(middle, lines.end());
  first.join();
  std::inplace_merge(lines.begin(), middle, lines.end());
  return lines;
}

bool write_lines(const std::vector<Line>& lines, const char* path) {
  std::FILE* out = std::fopen(path, "w");
  if (out == nullptr) return false;
  for (const Line& line : lines) {
    char digits[24];
    digits[0] = '\t';
    char* end = std::to_chars(digits + 1, digits + sizeof digits, line.number).ptr;
    *end++ = '\n';
    std::fwrite(line.word.data(), 1, line.word.size(), out);
    std::fwrite(digits, 1, static_cast<std::size_t>(end - digits), out);
  }
  const bool flushed = std::fflush(out) == 0 && ::fsync(::fileno(out)) == 0;
  return std::fclose(out) == 0 && flushed;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: wordcount-baseline FILE OUTPUT [THREADS]\n");
    return 2;
  }
  const auto begin = std::chrono::steady_clock::now();
  const int fd = ::open(argv[1], O_RDONLY | O_CLOEXEC);
  struct stat info {};
  if (fd < 0 || ::fstat(fd, &info) != 0 || info.st_size == 0) {
    std::perror(argv[1]);
    return 1;
  }
  const auto size = static_cast<std::size_t>(info.st_size);
  const void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    return 1;
  }
  const int threads = argc > 3 ? std::atoi(argv[3]) : 2;
  std::vector<Counts> tables(static_cast<std::size_t>(std::max(threads, 1)));
  count_all({static_cast<const char*>(memory), size}, tables);
  for (std::size_t i = 1; i < tables.size(); ++i)
    for (const auto& [word, number] : tables[i]) tables[0][word] += number;
  if (!write_lines(sorted_lines(tables[0]), argv[2])) {
    std::perror(argv[2]);
    return 1;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%.3f\n", took.count());
  return 0;
}
