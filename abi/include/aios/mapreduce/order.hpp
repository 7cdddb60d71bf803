// Total order: the boundaries between partitions, chosen from a sample of the input's keys.
#pragma once

#include <aios/codelet.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include <aios/mapreduce/format.hpp>
#include <aios/mapreduce/records.hpp>

namespace aios::mapreduce::engine {

/// The job wants every key of a partition below every key of the next one.
template <class Job>
concept TotalOrder = requires {
  requires Job::total_order;
};

/// The boundaries behind the description at `header`, as the sample wrote them. Boundary i is the
/// least key of partition i + 1.
class Boundaries {
 public:
  Boundaries(const char* header, std::uint32_t partitions)
      : slots_(header + description_bytes), partitions_(partitions) {}

  std::uint32_t count() const {
    std::uint32_t count;
    std::memcpy(&count, slots_, sizeof count);
    return std::min(count, partitions_ - 1);
  }
  std::string_view operator[](std::uint32_t i) const {
    const char* slot = slots_ + (i + 1) * sizeof(BoundarySlot);
    std::uint16_t length;
    std::memcpy(&length, slot, sizeof length);
    return {slot + offsetof(BoundarySlot, bytes),
            std::min<std::size_t>(length, max_boundary_bytes)};
  }

 private:
  const char* slots_;
  std::uint32_t partitions_;
};

/// Sorts `keys` and writes the boundaries of partitions that hold about as many of them each.
inline void write_boundaries(char* header, std::uint32_t partitions,
                             std::vector<std::string>& keys) {
  std::sort(keys.begin(), keys.end());
  char* slots = header + description_bytes;
  std::uint32_t count = 0;
  std::string_view last;
  for (std::uint64_t p = 1; p < partitions && !keys.empty(); ++p) {
    const std::string& key = keys[p * keys.size() / partitions];
    if (key <= last) continue;  // so frequent that it fills more than one partition
    BoundarySlot slot{};
    slot.length = static_cast<std::uint16_t>(key.copy(slot.bytes, max_boundary_bytes));
    std::memcpy(slots + ++count * sizeof slot, &slot, sizeof slot);
    last = key;
  }
  std::memcpy(slots, &count, sizeof count);
}

/// Gathers the keys that a job emits for a sample; what map() would see as `out`.
class KeySample {
 public:
  template <class Value>
  void emit(std::string_view key, const Value&) {
    if (!full()) keys_.emplace_back(key.substr(0, max_boundary_bytes));
  }
  void count(std::size_t, std::uint64_t = 1) {}
  std::uint32_t document() const { return 0; }

  bool full() const { return keys_.size() == max_keys; }
  std::vector<std::string>& keys() { return keys_; }

 private:
  static constexpr std::size_t max_keys = 1u << 18;
  std::vector<std::string> keys_;
};

/// The reader's sink. A record that the job fails on gives no keys: the map task will say where.
template <class Job>
struct SampleSink {
  Job& job;
  KeySample& sample;
  RecordDecoder<Job>& decoder;
  const std::vector<const aios_file_piece*>& pieces;
  bool readable = true;  ///< the piece that is read

  void enter(std::uint32_t index) {
    try {
      decoder.enter(*pieces[index], index);
      readable = true;
    } catch (const std::exception&) {
      readable = false;
    }
  }
  void release() {}
  bool record(std::string_view text, std::uint64_t) {
    return gather([&] { job.map(text, sample); });
  }
  bool structured(std::string_view record, std::uint64_t) {
    return gather([&] {
      if (readable) decoder.decode(record, [&](std::string_view text) { job.map(text, sample); });
    });
  }

 private:
  template <class Map>
  bool gather(Map map) {
    try {
      map();
    } catch (const std::exception&) {
    }
    return !sample.full();
  }
};

template <class Job>
void sample_order(const aios_task& task, Job& job, char* header, std::uint32_t partitions) {
  std::vector<const aios_file_piece*> pieces;
  for (std::uint32_t i = 2; i < task.buffer_count; ++i)
    for (std::uint32_t j = 0; j < task.buffers[i].file_count; ++j)
      pieces.push_back(&task.buffers[i].files[j]);
  KeySample sample;
  RecordDecoder<Job> decoder(static_cast<const char*>(task.buffers[0].data));
  SampleSink<Job> sink{job, sample, decoder, pieces};
  read_input<Job>(pieces, {}, decoder.format(), sink);
  write_boundaries(header, partitions, sample.keys());
}

}  // namespace aios::mapreduce::engine
