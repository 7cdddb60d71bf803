// Sorting of many byte strings, eight bytes at a time, in place.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
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

/// Keys with so many first bytes in common are compared as a whole: every eight bytes are a call
/// deep.
inline constexpr std::size_t max_radix_depth = 512;

/// `Keys` gives `length(index)`, `word(index, depth)`: the key's bytes [depth, depth + 8) as a
/// big-endian number, zero past its end, and `rest(index, depth)`: its bytes from `depth` on. Equal
/// keys keep the order of their indices.
template <class Keys>
class KeySorter {
 public:
  explicit KeySorter(const Keys& keys) : keys_(keys) {}

  /// Items hold the word at depth 0.
  void sort(SortItem* items, std::size_t count) { by_words(items, count, 0); }

 private:
  /// Begins with the first byte in which the words differ at all.
  void by_words(SortItem* items, std::size_t count, std::size_t depth) {
    if (count < radix_threshold) return by_word(items, count, depth);
    std::uint64_t differing = 0;
    for (std::size_t i = 1; i < count; ++i) differing |= items[i].word ^ items[0].word;
    if (differing == 0) return equal_words(items, count, depth);
    const auto equal_bits = static_cast<unsigned>(std::countl_zero(differing));
    by_byte(items, count, 56 - equal_bits / 8 * 8, depth);
  }

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
    if (next >= max_radix_depth) return by_rest(longer, left, next);
    for (SortItem* item = longer; item != items + count; ++item)
      item->word = keys_.word(item->index, next);
    by_words(longer, left, next);
  }

  void by_rest(SortItem* items, std::size_t count, std::size_t depth) {
    std::sort(items, items + count, [&](const SortItem& a, const SortItem& b) {
      const int order = keys_.rest(a.index, depth).compare(keys_.rest(b.index, depth));
      return order != 0 ? order < 0 : a.index < b.index;
    });
  }

  const Keys& keys_;
};

}  // namespace aios::mapreduce::engine
