// Random texts, ways to cut them into splits, and what counting their words must give.
#pragma once

#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/mapreduce/local_job.hpp"

namespace aios::test {

inline bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

inline std::string count_words(const std::vector<std::string>& texts) {
  std::map<std::string, std::uint64_t> counts;
  for (const std::string& text : texts)
    for (std::size_t i = 0, j; i < text.size(); i = j + 1) {
      for (j = i; j < text.size() && !is_space(text[j]); ++j) continue;
      if (j > i) ++counts[text.substr(i, j - i)];
    }
  std::string out;
  for (const auto& [word, count] : counts) out += word + "\t" + std::to_string(count) + "\n";
  return out;
}

/// Words of many lengths over few letters, so that keys share long beginnings, and any byte at all.
inline std::string random_text(std::mt19937_64& random, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) {
    const std::size_t length = random() % 8 == 0 ? random() % 40 : random() % 9;
    const unsigned kind = random() % 16;
    for (std::size_t i = 0; i < length; ++i)
      text += kind == 0 ? static_cast<char>(random()) : static_cast<char>('a' + random() % 2);
    text += " \t\n\v\f\r"[random() % 6];
    if (random() % 64 == 0) text.append(random() % 200, ' ');
  }
  if (random() % 2 == 0) text.pop_back();
  return text;
}

struct Input {
  std::vector<std::string> texts;
  std::vector<Fd> files;
  std::vector<std::vector<aios_file_piece>> splits;

  void add(std::string text) {
    files.push_back(file_with(text));
    texts.push_back(std::move(text));
  }
  /// Cuts the files into pieces of `piece_bytes` and puts `per_split` of them into each split.
  void cut(std::uint64_t piece_bytes, std::size_t per_split) {
    splits.clear();
    for (std::size_t i = 0; i < files.size(); ++i)
      for (std::uint64_t at = 0; at == 0 || at < texts[i].size(); at += piece_bytes) {
        if (splits.empty() || splits.back().size() == per_split) splits.emplace_back();
        const std::uint64_t length = std::min<std::uint64_t>(piece_bytes, texts[i].size() - at);
        splits.back().push_back(piece_of(files[i], at, length, texts[i].size()));
      }
  }
};

inline Input random_input(std::uint64_t seed, std::size_t files, std::size_t bytes) {
  std::mt19937_64 random(seed);
  Input input;
  for (std::size_t i = 0; i < files; ++i) input.add(random_text(random, random() % bytes));
  return input;
}

}  // namespace aios::test
