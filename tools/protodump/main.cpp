// protodump: prints the layout of every message, or keeps abi/proto/protocols.lock.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tools/protodump/dump.hpp"

namespace {

constexpr const char* usage =
    "usage: protodump                print the layouts\n"
    "       protodump --check FILE   fail, saying why, when FILE records others\n"
    "       protodump --update FILE  record them; refused when one changed under its version\n";

std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int complain(const std::vector<std::string>& wrong) {
  for (const std::string& sentence : wrong) std::fprintf(stderr, "%s\n", sentence.c_str());
  return wrong.empty() ? 0 : 1;
}

int update(const char* path, const std::string& current) {
  if (const int failed = complain(aios::protodump::drifted(read_file(path), current)))
    return failed;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << current;
  if (file.flush()) return 0;
  std::fprintf(stderr, "cannot write %s\n", path);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string current = aios::protodump::dump_all();
  if (argc == 1) return std::fputs(current.c_str(), stdout) < 0 ? 1 : 0;
  if (argc == 3 && std::strcmp(argv[1], "--check") == 0)
    return complain(aios::protodump::compare(read_file(argv[2]), current));
  if (argc == 3 && std::strcmp(argv[1], "--update") == 0) return update(argv[2], current);
  std::fputs(usage, stderr);
  return 2;
}
