// Sorting of many byte strings, eight bytes at a time, in place.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace aios::mapreduce::engine {

/// One string to be sorted: the eight bytes now compared, and which string it is.
struct SortItem {
  std::uint64_t word;
  std::uint32_t index;
  std::uint32_t partition;
};

/// Below this many items comparing is faster than counting.
inline constexpr std::size_t radix_threshold = 384;

/// In-place radix pass ("American flag"): orders items by digit(item) < Buckets and hands each
/// bucket with more than one item to `next`.
template <std::size_t Buckets, class Digit, class Next>
void radix_pass(SortItem* items, std::size_t count, Digit digit, Next next) {
  std::array<std::size_t, Buckets> end{}, at;
  for (std::size_t i = 0; i < count; ++i) ++end[digit(items[i])];
  std::size_t sum = 0;
  for (std::size_t d = 0; d < Buckets; ++d) {
    at[d] = sum;
    end[d] = sum += end[d];
  }
  std::size_t begin = 0;
  for (std::size_t d = 0; d < Buckets; ++d) {
    while (at[d] < end[d]) {
      SortItem item = items[at[d]];
      for (std::size_t to = digit(item); to != d; to = digit(item))
        std::swap(item, items[at[to]++]);
      items[at[d]++] = item;
    }
    if (end[d] - begin > 1) next(items + begin, end[d] - begin);
    begin = end[d];
  }
}

/// `Keys` gives `length(index)` and `word(index, depth)`: the key's bytes [depth, depth + 8) as a
/// big-endian number, zero past its end. Equal keys keep the order of their indices.
template <class Keys>
class KeySorter {
 public:
  explicit KeySorter(const Keys& keys) : keys_(keys) {}

  /// Items hold the word at depth 0.
  void sort(SortItem* items, std::size_t count) { by_byte(items, count, 56, 0); }

 private:
  void by_byte(SortItem* items, std::size_t count, unsigned shift, std::size_t depth) {
    if (count < radix_threshold) return by_word(items, count, depth);
    radix_pass<256>(
        items, count, [shift](const SortItem& item) { return (item.word >> shift) & 0xff; },
        [&](SortItem* bucket, std::size_t size) {
          shift == 0 ? equal_words(bucket, size, depth) : by_byte(bucket, size, shift - 8, depth);
        });
  }

  void by_word(SortItem* items, std::size_t count, std::size_t depth) {
    std::sort(items, items + count,
              [](const SortItem& a, const SortItem& b) { return a.word < b.word; });
    for (std::size_t i = 0, j; i < count; i = j) {
      for (j = i + 1; j < count && items[j].word == items[i].word; ++j) continue;
      if (j - i > 1) equal_words(items + i, j - i, depth);
    }
  }

  /// Keys that end within this word differ only in length and come before those that go on.
  void equal_words(SortItem* items, std::size_t count, std::size_t depth) {
    const std::size_t next = depth + 8;
    SortItem* longer = std::partition(items, items + count, [&](const SortItem& item) {
      return keys_.length(item.index) <= next;
    });
    std::sort(items, longer, [&](const SortItem& a, const SortItem& b) {
      const std::size_t la = keys_.length(a.index), lb = keys_.length(b.index);
      return la != lb ? la < lb : a.index < b.index;
    });
    const auto left = static_cast<std::size_t>(items + count - longer);
    if (left < 2) return;
    for (SortItem* item = longer; item != items + count; ++item)
      item->word = keys_.word(item->index, next);
    by_byte(longer, left, 56, next);
  }

  const Keys& keys_;
};

}  // namespace aios::mapreduce::engine
