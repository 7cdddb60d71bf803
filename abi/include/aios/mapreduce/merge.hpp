// Merging of sorted runs by a tree of losers.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include <aios/mapreduce/format.hpp>
#include <aios/mapreduce/key.hpp>

namespace aios::mapreduce::engine {

/// Reads the records of one window of a run. `ValueBytes` is the size of each value, or 0 when
/// every record gives its own.
template <std::size_t ValueBytes>
class WindowCursor {
 public:
  enum class State { record, used_up, at_end };

  WindowCursor(const char* begin, std::uint64_t bytes, bool last)
      : begin_(begin), at_(begin), next_(begin), end_(begin + bytes), last_(last) {}

  State state() const { return state_; }
  std::uint64_t prefix() const { return prefix_; }
  std::string_view key() const { return key_; }
  std::string_view value() const { return value_; }
  const char* at() const { return at_; }
  std::uint64_t consumed() const { return static_cast<std::uint64_t>(at_ - begin_); }

  /// Back to the record that begins at `at`.
  void seek(const char* at) {
    next_ = at;
    advance();
  }

  /// To the next record. A record that the window's end cuts is `used_up`; in the last window of a
  /// run it means that the run is damaged.
  State advance() {
    at_ = next_;
    if (at_ == end_) return state_ = last_ ? State::at_end : State::used_up;
    const char* parsed = parse();
    if (parsed == nullptr) {
      if (last_) throw Failure(Failure::corrupt, "a sorted run ends within a record");
      return state_ = State::used_up;
    }
    next_ = parsed;
    return state_ = State::record;
  }

 private:
  const char* parse() {
    std::uint64_t key_length, value_length = ValueBytes;
    const char* at = get_varint(at_, end_, key_length);
    if (at == nullptr) return nullptr;
    const char* value = at;
    if constexpr (ValueBytes == 0) {
      value = at = get_varint(at, end_, value_length);
      if (at == nullptr) return nullptr;
    }
    if (static_cast<std::uint64_t>(end_ - at) < key_length + value_length) return nullptr;
    if constexpr (ValueBytes == 0) {
      key_ = {at, key_length};
      value = at + key_length;
    } else {
      key_ = {at + ValueBytes, key_length};
    }
    value_ = {value, value_length};
    prefix_ = end_ - key_.data() >= static_cast<std::ptrdiff_t>(prefix_bytes)
                  ? padded_prefix(key_.data(), key_length)
                  : short_prefix(key_.data(), key_length);
    return at + key_length + value_length;
  }

  const char* begin_;
  const char* at_;
  const char* next_;
  const char* end_;
  bool last_;
  State state_ = State::used_up;
  std::uint64_t prefix_ = 0;
  std::string_view key_;
  std::string_view value_;
};

/// The smallest key of many cursors; of equal keys the one of the earliest run.
template <class Cursor>
class LoserTree {
 public:
  explicit LoserTree(std::vector<Cursor>& cursors)
      : cursors_(cursors), heads_(cursors.size()), losers_(cursors.size()) {
    for (std::uint32_t i = 0; i < cursors_.size(); ++i) load(i);
    build();
  }

  bool at_end() const { return cursors_.empty() || heads_[winner_].ended; }
  std::uint32_t winner() const { return winner_; }

  /// After the winner's cursor has moved.
  void update() {
    load(winner_);
    std::uint32_t best = winner_;
    for (std::size_t node = (winner_ + cursors_.size()) / 2; node != 0; node /= 2)
      if (before(losers_[node], best)) std::swap(losers_[node], best);
    winner_ = best;
  }

 private:
  struct Head {
    std::uint64_t prefix;
    bool ended;
  };

  void load(std::uint32_t i) {
    const bool ended = cursors_[i].state() != Cursor::State::record;
    heads_[i] = {ended ? ~0ull : cursors_[i].prefix(), ended};
  }

  void build() {
    const std::size_t count = cursors_.size();
    if (count == 0) return;
    std::vector<std::uint32_t> winners(2 * count);
    for (std::uint32_t i = 0; i < count; ++i) winners[count + i] = i;
    for (std::size_t node = count - 1; node != 0; --node) {
      std::uint32_t left = winners[2 * node], right = winners[2 * node + 1];
      if (before(right, left)) std::swap(left, right);
      winners[node] = left;
      losers_[node] = right;
    }
    winner_ = winners[1];
  }

  bool before(std::uint32_t a, std::uint32_t b) const {
    const Head &ha = heads_[a], &hb = heads_[b];
    if (ha.prefix != hb.prefix) return ha.prefix < hb.prefix;
    if (ha.ended || hb.ended) return !ha.ended || (hb.ended && a < b);
    const int order = compare_tails(cursors_[a].key(), cursors_[b].key());
    return order != 0 ? order < 0 : a < b;
  }

  std::vector<Cursor>& cursors_;
  std::vector<Head> heads_;
  std::vector<std::uint32_t> losers_;
  std::uint32_t winner_ = 0;
};

}  // namespace aios::mapreduce::engine
