// The map task: records in, one sorted run out.
#pragma once

#include <aios/codelet.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <type_traits>
#include <vector>

#include <aios/mapreduce/format.hpp>
#include <aios/mapreduce/input.hpp>
#include <aios/mapreduce/order.hpp>
#include <aios/mapreduce/records.hpp>
#include <aios/mapreduce/store.hpp>

namespace aios::mapreduce {

/// What follows `--` on the command line.
using Arguments = std::vector<std::string_view>;

namespace engine {

inline Arguments split_arguments(const char* at, std::uint64_t bytes) {
  Arguments arguments;
  for (const char* end = at + bytes; at < end;) {
    arguments.emplace_back(at, ::strnlen(at, static_cast<std::size_t>(end - at)));
    at += arguments.back().size() + 1;
  }
  return arguments;
}

/// The job object a task works with: made from the job's arguments if it wants them.
template <class Job>
Job make_job(const Arguments& arguments) {
  if constexpr (std::is_constructible_v<Job, const Arguments&>) {
    return Job(arguments);
  } else {
    if (!arguments.empty()) throw Failure("this job takes no arguments after --");
    return Job();
  }
}

using Counters = std::array<std::uint64_t, max_counters>;

inline void check_counter(std::size_t counter) {
  if (counter >= max_counters) throw Failure("the job counts with a counter it has not declared");
}

template <class Job>
std::uint32_t partition_of(std::string_view key, std::uint32_t hash, std::uint32_t partitions) {
  if (partitions == 1) return 0;
  if constexpr (requires { Job::partition(key, partitions); }) {
    const std::uint32_t chosen = Job::partition(key, partitions);
    if (chosen >= partitions) throw Failure("the job's partition() chose a partition above R");
    return chosen;
  } else {
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(hash) * partitions) >> 32);
  }
}

/// Sorts what a task gathered and writes it as a run.
template <class Job, class Store>
class RunWriter {
 public:
  /// `header` is what the parameter buffer begins with.
  RunWriter(char* run, const char* header, std::uint32_t partitions, Store& store)
      : run_(run),
        header_(header),
        partitions_(partitions),
        entries_(store.entries()),
        items_(store.sort_space()) {}

  /// Bytes of the run.
  std::uint64_t write(const Counters& counters) {
    const std::size_t count = entries_.size();
    for (std::size_t i = 0; i < count; ++i)
      items_[i] = {entries_[i].prefix, static_cast<std::uint32_t>(i), partition(i)};
    table_ = reinterpret_cast<PartitionEntry*>(run_ + sizeof(RunHeader));
    std::memset(table_, 0, partitions_ * sizeof(PartitionEntry));
    at_ = run_ + sizeof(RunHeader) + partitions_ * sizeof(PartitionEntry);
    if constexpr (TotalOrder<Job>)
      write_in_order(count);
    else
      write_by_partition(count);
    return finish(count, counters);
  }

 private:
  std::uint32_t partition(std::size_t i) {
    if (partitions_ == 1 || TotalOrder<Job>) return 0;
    const auto& item = entries_[i];
    std::string_view key;
    if constexpr (requires { Job::partition(std::string_view(), 0u); }) key = key_of(item);
    return partition_of<Job>(key, item.hash, partitions_);
  }

  /// The whole key in one piece, until the next call.
  template <class Item>
  std::string_view key_of(const Item& item) {
    key_.resize(item.length + prefix_bytes);
    entries_.copy_key(item, key_.data());
    return {key_.data(), item.length};
  }

  void write_by_partition(std::size_t count) {
    if (partitions_ > 1)
      radix_pass<max_partitions>(
          items_, count, [](const SortItem& item) { return item.partition; },
          [](SortItem*, std::size_t) {});
    for (std::size_t first = 0, end; first < count; first = end) {
      const std::uint32_t p = items_[first].partition;
      for (end = first + 1; end < count && items_[end].partition == p;) ++end;
      KeySorter(entries_).sort(items_ + first, end - first);
      table_[p] = write_partition(items_ + first, end - first);
    }
  }

  /// All of it is sorted at once, then cut at the boundaries.
  void write_in_order(std::size_t count) {
    KeySorter(entries_).sort(items_, count);
    SortItem *first = items_, *const all_end = items_ + count;
    const Boundaries boundaries(header_, partitions_);
    const std::uint32_t last = partitions_ > 1 ? boundaries.count() : 0;
    for (std::uint32_t p = 0; p <= last; ++p) {
      SortItem* end = all_end;
      if (p < last)
        end = std::partition_point(first, all_end, [&](const SortItem& item) {
          return key_of(entries_[item.index]) < boundaries[p];
        });
      if (first != end) table_[p] = write_partition(first, static_cast<std::size_t>(end - first));
      first = end;
    }
  }

  PartitionEntry write_partition(const SortItem* items, std::size_t count) {
    PartitionEntry entry{};
    entry.offset = static_cast<std::uint64_t>(at_ - run_);
    entry.records = count;
    entry.index_first = static_cast<std::uint32_t>(index_.size());
    const char* begin = at_;
    std::uint64_t next_index = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (i + 8 < count) __builtin_prefetch(&entries_[items[i + 8].index]);
      const auto& item = entries_[items[i].index];
      const auto offset = static_cast<std::uint64_t>(at_ - begin);
      if (offset >= next_index) {
        index_.push_back({item.prefix, offset});
        next_index = offset + index_stride_bytes;
      }
      write_record(item);
    }
    entry.bytes = static_cast<std::uint64_t>(at_ - begin);
    entry.index_count = static_cast<std::uint32_t>(index_.size()) - entry.index_first;
    return entry;
  }

  template <class Item>
  void write_record(const Item& item) {
    at_ = put_varint(at_, item.length);
    if constexpr (CombinesValues<Job>) {
      std::memcpy(at_, &item.value, sizeof item.value);
      at_ = entries_.copy_key(item, at_ + sizeof item.value);
    } else {
      at_ = entries_.copy_key(item, put_varint(at_, item.value_length));
      std::memcpy(at_, entries_.tail(item) + entries_.tail_bytes(item), item.value_length);
      at_ += item.value_length;
    }
  }

  std::uint64_t finish(std::size_t records, const Counters& counters) {
    while ((at_ - run_) % alignof(IndexEntry) != 0) *at_++ = 0;
    RunHeader header{};
    header.magic = run_magic;
    header.partitions = partitions_;
    header.index_count = static_cast<std::uint32_t>(index_.size());
    header.index_offset = static_cast<std::uint64_t>(at_ - run_);
    header.records = records;
    std::memcpy(header.counters, counters.data(), sizeof header.counters);
    std::memcpy(run_, &header, sizeof header);
    std::copy_n(reinterpret_cast<const char*>(index_.data()), index_.size() * sizeof(IndexEntry),
                at_);
    return header.index_offset + index_.size() * sizeof(IndexEntry);
  }

  char* run_;
  const char* header_;
  PartitionEntry* table_ = nullptr;
  std::uint32_t partitions_;
  const std::remove_reference_t<decltype(std::declval<Store&>().entries())>& entries_;
  SortItem* items_;
  char* at_ = nullptr;
  std::vector<IndexEntry> index_;
  std::vector<char> key_;
};

/// What a job's map() sees as `out`.
template <class Job>
class MapOutput {
 public:
  using Store =
      std::conditional_t<CombinesValues<Job>, CombineTable<Job>, ValueList<!TotalOrder<Job>>>;

  MapOutput(Store& store, Counters& counters) : store_(store), counters_(counters) {}

  /// A key with a value that the job combines.
  template <class Value>
  void emit(std::string_view key, const Value& value) {
    if constexpr (CombinesValues<Job>) {
      const bool in_record = key.data() >= record_.data() &&
                             key.data() + key.size() <= record_.data() + record_.size();
      in_record ? store_.add(key, value) : store_.add_copy(key, value);
    } else {
      store_.add(key, value);
    }
  }
  /// Adds to the counter at this position of the job's `counters`.
  void count(std::size_t counter, std::uint64_t by = 1) {
    check_counter(counter);
    counters_[counter] += by;
  }

  /// The number of the input file that the record begins in; ReduceOutput knows its name.
  std::uint32_t document() const {
    if (document_ == no_document)
      throw Failure("a job that reads what another one wrote cannot ask for its documents");
    return document_;
  }

  void begin_record(std::string_view record) { record_ = record; }
  void begin_document(std::uint32_t number) { document_ = number; }
  static constexpr std::uint32_t no_document = ~0u;

 private:
  Store& store_;
  Counters& counters_;
  std::string_view record_;
  std::uint32_t document_ = 0;
};

template <class Job>
class MapTask {
 public:
  MapTask(const aios_task& task, const MapArguments& arguments)
      : task_(task), arguments_(arguments) {
    for (std::uint32_t i = 2; i < task.buffer_count; ++i)
      for (std::uint32_t j = 0; j < task.buffers[i].file_count; ++j)
        pieces_.push_back(&task.buffers[i].files[j]);
  }

  void run() {
    job_arguments_ = split_arguments(
        static_cast<const char*>(task_.buffers[0].data) + arguments_.parameter_offset,
        arguments_.parameter_bytes);
    // A record may emit more than was thought to fit. Then everything is done again: first to find
    // out which record it is, then to stop before it.
    skipping_ = arguments_.record_limit == skip_one_record;
    std::uint64_t limit = skipping_                      ? 1
                          : arguments_.record_limit != 0 ? arguments_.record_limit
                                                         : ~0ull;
    bool careful = false;
    while (true) {
      Pass pass(*this, limit, careful);
      const Position stopped = pass.gather();
      if (!pass.store.overflowed()) return finish(pass, stopped);
      if (careful && pass.records == 1) return report(start(), pass.store.written_bytes(), 0);
      if (careful) limit = pass.records - 1;
      careful = true;
    }
  }

 private:
  using Store = typename MapOutput<Job>::Store;

  /// One reading of the input; the reader's sink.
  struct Pass {
    Pass(MapTask& owner, std::uint64_t record_limit, bool flush_each)
        : task(owner),
          limit(record_limit),
          careful(flush_each),
          store(owner.arguments_.table_bytes,
                run_payload(owner.arguments_.run_bytes, owner.arguments_.partitions)),
          hint(owner.hint()),
          output(store, counters),
          decoder(static_cast<const char*>(owner.task_.buffers[0].data)),
          job(make_job<Job>(owner.job_arguments_)) {}

    Position gather() {
      return read_input<Job>(task.pieces_, task.start(), decoder.format(), *this);
    }

    void enter(std::uint32_t index) {
      piece = index;
      hint->piece = index;
      output.begin_document(decoder.format().later_stage != 0
                                ? output.no_document
                                : task.arguments_.first_document + index);
      decoder.enter(*task.pieces_[index], index);
    }
    void release() { store.flush(); }
    bool record(std::string_view text, std::uint64_t offset) {
      return take(text, offset, [&] { job.map(text, output); });
    }
    bool structured(std::string_view record, std::uint64_t offset) {
      if (decoder.is_blank(record)) return true;
      return take(record, offset, [&] {
        decoder.decode(record, [&](std::string_view text) { job.map(text, output); });
      });
    }
    template <class Map>
    bool take(std::string_view text, std::uint64_t offset, Map map) {
      hint->offset = offset;
      hint->records = ++records;
      if (task.skipping_) return false;
      output.begin_record(text);
      try {
        map();
      } catch (const std::exception& problem) {
        const auto* failure = dynamic_cast<const Failure*>(&problem);
        fail_at({piece, offset}, failure ? failure->code() : Failure::invalid_argument,
                problem.what());
      }
      if (careful) store.flush();
      return store.has_room() && !store.overflowed() && records < limit;
    }

    MapTask& task;
    std::uint64_t limit;
    bool careful;
    std::uint64_t records = 0;
    std::uint32_t piece = 0;
    Counters counters{};
    Store store;
    volatile MapHint* hint;
    MapOutput<Job> output;
    RecordDecoder<Job> decoder;
    Job job;
  };

  Position start() const { return {arguments_.piece, arguments_.offset}; }

  char* run_place() const {
    return static_cast<char*>(task_.buffers[1].data) + arguments_.run_offset;
  }
  volatile MapHint* hint() const {
    auto* hint = reinterpret_cast<volatile MapHint*>(run_place());
    hint->records = 0;
    hint->magic = hint_magic;
    return hint;
  }

  void finish(Pass& pass, Position stopped) {
    const std::uint64_t bytes =
        RunWriter<Job, Store>(run_place(), static_cast<const char*>(task_.buffers[0].data),
                              arguments_.partitions, pass.store)
            .write(pass.counters);
    report(stopped, pass.records, bytes);
  }

  void report(Position position, std::uint64_t records, std::uint64_t bytes) {
    task_.result[0] = position.piece;
    task_.result[1] = position.offset;
    task_.result[2] = records;
    task_.result[3] = bytes;
  }

  const aios_task& task_;
  MapArguments arguments_;
  Arguments job_arguments_;
  std::vector<const aios_file_piece*> pieces_;
  bool skipping_ = false;
};

}  // namespace engine
}  // namespace aios::mapreduce
