// What a map task gathers before it writes its run: a hash table of keys with combined values, or a
// list of keys with byte-string values.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include <aios/mapreduce/input.hpp>
#include <aios/mapreduce/key.hpp>
#include <aios/mapreduce/sort.hpp>

namespace aios::mapreduce::engine {

struct NoValue {};

template <class Job>
concept CombinesValues = requires {
  typename Job::Value;
};

/// The job's own way to combine two values of a key, or their sum.
template <class Job>
void combine(typename Job::Value& into, const typename Job::Value& value) {
  if constexpr (requires { Job::combine(into, value); })
    Job::combine(into, value);
  else
    into += value;
}

/// A key and its value. Bytes of the key from the eighth on lie in the arena at `tail`, and after
/// them, in a list, those of the value.
template <class Value>
struct Entry {
  std::uint64_t prefix;
  std::uint32_t tail;
  std::uint32_t length;
  std::uint32_t hash;
  std::uint32_t value_length;
  [[no_unique_address]] Value value;
};

/// Entries in order of arrival, in a bounded piece of memory.
template <class Value>
class EntryArray {
 public:
  static_assert(std::is_trivially_copyable_v<Value>, "a combined value must be trivially copyable");
  using Item = Entry<Value>;

  EntryArray(std::size_t entry_bytes, std::size_t arena_bytes)
      : entries_(entry_bytes),
        arena_(arena_bytes + prefix_bytes),
        capacity_(entry_bytes / sizeof(Item)),
        arena_capacity_(arena_bytes) {}

  std::size_t size() const { return size_; }
  std::size_t free_entries() const { return capacity_ - size_; }
  std::size_t free_arena() const { return arena_capacity_ - used_; }
  Item& operator[](std::size_t i) const { return reinterpret_cast<Item*>(entries_.data())[i]; }

  /// There must be room: `length` bytes of arena and one entry.
  Item& append(const char* key, std::uint32_t length, std::uint64_t prefix, std::uint32_t hash) {
    Item& item = (*this)[size_++];
    item.prefix = prefix;
    item.tail = static_cast<std::uint32_t>(used_);
    item.length = length;
    item.hash = hash;
    item.value_length = 0;
    if (length > prefix_bytes) append_bytes(key + prefix_bytes, length - prefix_bytes);
    return item;
  }
  void append_bytes(const char* bytes, std::size_t length) {
    // Unlike memcpy it may be given nothing, without an address.
    std::copy_n(bytes, length, arena_.data() + used_);
    used_ += length;
  }

  const char* tail(const Item& item) const { return arena_.data() + item.tail; }
  std::uint32_t tail_bytes(const Item& item) const {
    return item.length > prefix_bytes ? item.length - static_cast<std::uint32_t>(prefix_bytes) : 0;
  }
  char* copy_key(const Item& item, char* to) const {
    const std::uint64_t head = big_endian(item.prefix);
    std::memcpy(to, &head, std::min<std::size_t>(item.length, prefix_bytes));
    std::memcpy(to + prefix_bytes, tail(item), tail_bytes(item));
    return to + item.length;
  }
  bool same_tail(const Item& item, const char* key) const {
    return item.length <= prefix_bytes ||
           std::memcmp(tail(item), key + prefix_bytes, item.length - prefix_bytes) == 0;
  }

  // For KeySorter.
  std::size_t length(std::uint32_t index) const { return (*this)[index].length; }
  std::uint64_t word(std::uint32_t index, std::size_t depth) const {
    const Item& item = (*this)[index];
    return key_prefix(tail(item) + depth - prefix_bytes, item.length - depth);
  }
  std::string_view rest(std::uint32_t index, std::size_t depth) const {
    const Item& item = (*this)[index];
    return {tail(item) + depth - prefix_bytes, item.length - depth};
  }

 private:
  Memory entries_;
  Memory arena_;
  std::size_t size_ = 0;
  std::size_t used_ = 0;
  std::size_t capacity_;
  std::size_t arena_capacity_;
};

/// A hash table of keys and combined values. Emitted keys wait in a short queue while the memory
/// that looking them up needs is on its way; their bytes must stay where they are until `flush`.
template <class Job>
class CombineTable {
 public:
  using Value = typename Job::Value;
  using Item = Entry<Value>;

  /// `bytes` bounds the table, `run_bytes` what it may come to when written. Of `bytes`, 3/8 are
  /// for slots, of which at most half are used, so that later they have room for sorting.
  CombineTable(std::size_t bytes, std::size_t run_bytes)
      : array_(bytes * 3 / 8, bytes / 4),
        slots_(min_slots * sizeof(Slot)),
        slot_count_(min_slots),
        run_limit_(run_bytes) {
    while (most_slots_ * 2 * sizeof(Slot) <= bytes * 3 / 8) most_slots_ *= 2;
  }

  /// False when the next record's emissions might not find room: write the run.
  bool has_room() const {
    return array_.size() + slack < most_slots_ / 2 && array_.free_entries() > slack &&
           array_.free_arena() > slack_bytes + pending_bytes_ &&
           written_ + pending_bytes_ + slack_bytes < run_limit_;
  }
  /// True when something did not fit after all: the contents are worthless.
  bool overflowed() const { return overflowed_; }
  /// What the run would have needed.
  std::size_t written_bytes() const { return written_; }

  /// `key` stays where it is until `flush` and is followed by seven readable bytes.
  void add(std::string_view key, const Value& value) {
    put(key.data(), key.size(), padded_prefix(key.data(), key.size()), value);
    if (pending_count_ == batch) flush();
  }
  /// `key` may go away.
  void add_copy(std::string_view key, const Value& value) {
    char* staged = staging_.data() + pending_count_ * staged_bytes;
    const bool fits = key.size() <= staged_bytes;
    if (fits) std::memcpy(staged, key.data(), key.size());
    put(fits ? staged : key.data(), key.size(), key_prefix(key.data(), key.size()), value);
    if (!fits || pending_count_ == batch) flush();
  }

  void flush() {
    for (std::size_t i = 0; i < pending_count_; ++i) {
      const Slot& found = slot(pending_[i].hash);
      if (found.entry != 0) __builtin_prefetch(&array_[found.entry - 1]);
    }
    for (std::size_t i = 0; i < pending_count_; ++i) insert(pending_[i]);
    pending_count_ = 0;
    pending_bytes_ = 0;
  }

  const EntryArray<Value>& entries() const { return array_; }
  /// The slots' memory, with room for every entry. Nothing may be added afterwards.
  SortItem* sort_space() { return reinterpret_cast<SortItem*>(slots_.data()); }

 private:
  static constexpr std::size_t batch = 32;
  static constexpr std::size_t staged_bytes = 64;
  static constexpr std::size_t min_slots = 4096;
  static constexpr std::size_t slack = 64;
  static constexpr std::size_t slack_bytes = 4096;

  struct Slot {
    std::uint32_t hash;
    std::uint32_t entry;  ///< index + 1; 0: free
  };
  struct Pending {
    const char* key;
    std::uint32_t length;
    std::uint32_t hash;
    std::uint64_t prefix;
    Value value;
  };
  static_assert(2 * sizeof(Slot) >= sizeof(SortItem));

  Slot* slots() const { return reinterpret_cast<Slot*>(slots_.data()); }
  Slot& slot(std::uint32_t hash) const { return slots()[hash & (slot_count_ - 1)]; }

  void put(const char* key, std::size_t length, std::uint64_t prefix, const Value& value) {
    Pending& pending = pending_[pending_count_++];
    pending.key = key;
    pending.length = static_cast<std::uint32_t>(length);
    pending.prefix = prefix;
    pending.hash = key_hash(key, length, prefix);
    pending.value = value;
    pending_bytes_ += length;
    __builtin_prefetch(&slot(pending.hash));
  }

  void insert(const Pending& pending) {
    std::size_t at = pending.hash & (slot_count_ - 1);
    for (;; at = (at + 1) & (slot_count_ - 1)) {
      const Slot& slot = slots()[at];
      if (slot.entry == 0) break;
      if (slot.hash != pending.hash) continue;
      Item& item = array_[slot.entry - 1];
      if (item.prefix == pending.prefix && item.length == pending.length &&
          array_.same_tail(item, pending.key))
        return combine<Job>(item.value, pending.value);
    }
    written_ += varint_bytes(pending.length) + sizeof(Value) + pending.length;
    if (array_.free_entries() == 0 || array_.free_arena() < pending.length ||
        written_ > run_limit_ || 2 * array_.size() == most_slots_) {
      overflowed_ = true;
      return;
    }
    array_.append(pending.key, pending.length, pending.prefix, pending.hash).value = pending.value;
    slots()[at] = {pending.hash, static_cast<std::uint32_t>(array_.size())};
    if (array_.size() * 2 > slot_count_) grow();
  }

  void grow() {
    Memory old_memory(slot_count_ * 2 * sizeof(Slot));
    std::swap(slots_, old_memory);
    const Slot* old = reinterpret_cast<const Slot*>(old_memory.data());
    const std::size_t old_count = std::exchange(slot_count_, slot_count_ * 2);
    for (std::size_t i = 0; i < old_count; ++i) {
      if (old[i].entry == 0) continue;
      std::size_t at = old[i].hash & (slot_count_ - 1);
      while (slots()[at].entry != 0) at = (at + 1) & (slot_count_ - 1);
      slots()[at] = old[i];
    }
  }

  EntryArray<Value> array_;
  Memory slots_;
  std::size_t slot_count_;
  std::size_t most_slots_ = min_slots;
  std::size_t run_limit_;
  std::size_t written_ = 0;
  std::size_t pending_bytes_ = 0;
  std::size_t pending_count_ = 0;
  bool overflowed_ = false;
  std::array<Pending, batch> pending_;
  std::array<char, batch * staged_bytes> staging_;
};

/// Keys with byte-string values, none combined, in order of emission. `Hashed`: partitions are
/// chosen by the hash of the key.
template <bool Hashed>
class ValueList {
 public:
  ValueList(std::size_t bytes, std::size_t run_bytes)
      : array_(bytes * 3 / 10, bytes / 2), items_(bytes / 5), run_limit_(run_bytes) {}

  bool has_room() const {
    return array_.free_entries() > slack && array_.free_arena() > slack_bytes &&
           written_ + slack_bytes < run_limit_;
  }
  bool overflowed() const { return overflowed_; }
  std::size_t written_bytes() const { return written_; }
  void flush() {}

  void add(std::string_view key, std::string_view value) {
    written_ += varint_bytes(key.size()) + varint_bytes(value.size()) + key.size() + value.size();
    if (array_.free_entries() == 0 || array_.free_arena() < key.size() + value.size() ||
        written_ > run_limit_) {
      overflowed_ = true;
      return;
    }
    const std::uint64_t prefix = key_prefix(key.data(), key.size());
    const std::uint32_t hash = Hashed ? key_hash(key.data(), key.size(), prefix) : 0;
    auto& item = array_.append(key.data(), static_cast<std::uint32_t>(key.size()), prefix, hash);
    item.value_length = static_cast<std::uint32_t>(value.size());
    array_.append_bytes(value.data(), value.size());
  }

  const EntryArray<NoValue>& entries() const { return array_; }
  SortItem* sort_space() { return reinterpret_cast<SortItem*>(items_.data()); }

 private:
  static constexpr std::size_t slack = 64;
  static constexpr std::size_t slack_bytes = 4096;
  static_assert(sizeof(Entry<NoValue>) * 2 == sizeof(SortItem) * 3);

  EntryArray<NoValue> array_;
  Memory items_;
  std::size_t run_limit_;
  std::size_t written_ = 0;
  bool overflowed_ = false;
};

}  // namespace aios::mapreduce::engine
