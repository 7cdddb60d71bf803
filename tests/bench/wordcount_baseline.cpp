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
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

struct Hash {
  std::size_t operator()(std::string_view key) const { return XXH3_64bits(key.data(), key.size()); }
};
using Counts = tsl::robin_map<std::string_view, std::uint64_t, Hash>;

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

bool write_sorted(const Counts& counts, const char* path) {
  std::vector<std::pair<std::string_view, std::uint64_t>> sorted(counts.begin(), counts.end());
  std::sort(sorted.begin(), sorted.end());
  std::FILE* out = std::fopen(path, "w");
  if (out == nullptr) return false;
  std::string line;
  for (const auto& [word, number] : sorted) {
    char digits[20];
    const char* end = std::to_chars(digits, digits + sizeof digits, number).ptr;
    line.assign(word).append(1, '\t').append(digits, end).append(1, '\n');
    std::fwrite(line.data(), 1, line.size(), out);
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
  if (!write_sorted(tables[0], argv[2])) {
    std::perror(argv[2]);
    return 1;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%.3f\n", took.count());
  return 0;
}
