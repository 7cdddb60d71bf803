// A MapReduce job in one class. For example, how often each word begins a line:
//
//   #include <aios/mapreduce.hpp>
//
//   struct FirstWords : aios::mapreduce::Lines {
//     using Value = std::uint64_t;                       // values of a key are added up
//     void map(std::string_view line, auto& out) {
//       out.emit(line.substr(0, line.find(' ')), 1);
//     }
//   };
//   AIOS_MAPREDUCE_JOB(FirstWords)
//
//   g++ -std=c++20 -O3 -fPIC -shared first_words.cpp -o first_words.so
//   aiosctl mapreduce run ./first_words.so --input TEXT --output OUT
//
// The class derives from Words (records are maximal runs of bytes that are not ASCII white space,
// at most 1 MiB each), Lines (without their newline, at most 16 MiB each), or Records (lines too,
// unless the input has a format), and has
//
//   void map(std::string_view record, auto& out)
//       out.emit(key, value) as often as it likes; out.count(i) adds to counter i. `record` and
//       keys may be any bytes, but a key holds no newline.
//
// and one of three kinds of values:
//
//   using Value = T;   T is trivially copyable. Values of a key are combined as they come, with
//       static void combine(Value& into, const Value& value)   or, without it, `into += value`.
//       It must be associative; values come in the order of the input. Then, for every key,
//       void reduce(std::string_view key, const Value& value, auto& out)   may emit any number of
//       values, each one line of the output; without it the value is written as a number.
//
//   no Value:          out.emit(key, std::string_view value), and for every key
//       void reduce(std::string_view key, aios::mapreduce::Values& values, auto& out)
//       reads `values.next()` until it is empty, and emits lines.
//
//   pairs:             as before, but instead of reduce() it has, for every pair by itself,
//       void each(std::string_view key, std::string_view value, auto& out)
//       pairs come in order of their keys, those of equal keys in the order of the input. A key may
//       have any number of values.
//
// map() may ask for out.document(), the number of the input file that the record begins in, and
// reduce() and each() for out.document_name(number), its path as the job was given it.
//
// reduce() and each() write lines: out.emit(value) is "KEY\tVALUE", out.line(bytes) only these
// bytes.
//
// It may also have
//
//   explicit JOB(const aios::mapreduce::Arguments& arguments)   what follows `--` on the command
//   line static std::uint32_t partition(std::string_view key, std::uint32_t partitions)
//       which of the output parts a key goes to; by default its hash decides
//   static constexpr bool total_order = true;
//       instead of that: every key of a part is below every key of the next one. The boundaries
//       come from a sample of the input, about as much for each part
//   static constexpr const char* counters[] = {"matches", ...};   at most 16, of at most 31 bytes
//
//   using Json = aios::mapreduce::Json;   of <aios/mapreduce/json.hpp>: lets it read JSON Lines
//
// Input may have a format (--input-format): CSV, JSON Lines, or records of a fixed length, each at
// most 16 MiB, and of each record the job sees one field (--field), or all of its bytes. A job of
// Records is given that text whole, whatever bytes it has; one of Words, its words; one of Lines,
// its lines: at least one, an empty text is an empty line. Without --field a job of Records sees a
// record of CSV as it is written; aios::mapreduce::csv_fields(record) takes it apart. Counts of
// records, and what is skipped as bad, are those of the format. A record that is no CSV or JSON
// fails the job like a Failure.
//
// In a later job of a chain the lines of the one before are the input; map() has no document(), and
// reduce()'s document_name() names the files that the chain began with, documents() their number.
//
// Throwing aios::mapreduce::Failure, or any std::exception, fails the job with its message and the
// place in the input. A job object is made for every task and used by one thread. Work may be done
// twice when a context dies, so map() and reduce() must depend on nothing but their arguments.
#pragma once

#include <aios/codelet.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iterator>
#include <new>
#include <string_view>

#include <aios/mapreduce/format.hpp>
#include <aios/mapreduce/map_task.hpp>
#include <aios/mapreduce/order.hpp>
#include <aios/mapreduce/reduce_task.hpp>

namespace aios::mapreduce {

struct Words {
  static constexpr InputKind input_kind = InputKind::words;
};
struct Lines {
  static constexpr InputKind input_kind = InputKind::lines;
};
struct Records {
  static constexpr InputKind input_kind = InputKind::records;
};

namespace engine {

template <class Job>
void describe(const aios_task& task, const DescribeArguments& arguments) {
  Job job = make_job<Job>(
      split_arguments(static_cast<const char*>(task.buffers[0].data) + arguments.parameter_offset,
                      arguments.parameter_bytes));
  check_input<Job>(RecordDecoder<Job>::read_format(static_cast<const char*>(task.buffers[0].data)));
  char* const reply = static_cast<char*>(task.buffers[1].data) + arguments.reply_offset;
  Description description{};
  description.version = format_version;
  if constexpr (TotalOrder<Job>) {
    description.flags |= total_order_flag;
    if (arguments.partitions > 1)
      sample_order(task, job, reply, static_cast<std::uint32_t>(arguments.partitions));
  }
  if constexpr (requires { Job::counters[0]; }) {
    static_assert(std::size(Job::counters) <= max_counters, "at most 16 counters");
    for (const char* name : Job::counters)
      std::strncpy(description.counter_names[description.counter_count++], name,
                   max_counter_name_bytes - 1);
  }
  std::memcpy(reply, &description, sizeof description);
}

/// Runs one codelet: nothing that a job throws leaves it.
template <class TaskArguments, class Function>
std::int32_t guarded(const aios_task* task, std::uint32_t least_buffers, Function function) {
  std::int32_t code = Failure::invalid_argument;
  const char* text = "this codelet is not called like that";
  char copy[400];
  try {
    TaskArguments arguments;
    if (task->argument_bytes == sizeof arguments && task->buffer_count >= least_buffers) {
      std::memcpy(&arguments, task->arguments, sizeof arguments);
      function(*task, arguments);
      return 0;
    }
  } catch (const Failure& failure) {
    code = failure.code();
    std::snprintf(copy, sizeof copy, "%s", failure.what());
    text = copy;
  } catch (const std::bad_alloc&) {
    code = Failure::no_memory;
    text = "no memory";
  } catch (const std::exception& problem) {
    std::snprintf(copy, sizeof copy, "%s", problem.what());
    text = copy;
  } catch (...) {
    text = "the job threw something that is no std::exception";
  }
  if (task->message_bytes != 0) std::snprintf(task->message, task->message_bytes, "%s", text);
  return code;
}

template <class Job>
struct Codelets {
  static std::int32_t describe_task(const aios_task* task) {
    return guarded<DescribeArguments>(task, 2, describe<Job>);
  }
  static std::int32_t map_task(const aios_task* task) {
    return guarded<MapArguments>(task, 3, [](const aios_task& t, const MapArguments& arguments) {
      MapTask<Job>(t, arguments).run();
    });
  }
  static std::int32_t reduce_task(const aios_task* task) {
    return guarded<ReduceArguments>(task, 2,
                                    [](const aios_task& t, const ReduceArguments& arguments) {
                                      ReduceWork<Job>(t, arguments).run();
                                    });
  }
  static constexpr aios_codelet table[] = {
      {"describe", describe_task}, {"map", map_task}, {"reduce", reduce_task}};
};

}  // namespace engine
}  // namespace aios::mapreduce

/// Makes the module out of the class `Job`; once, at namespace scope.
#define AIOS_MAPREDUCE_JOB(Job)                                  \
  extern "C" AIOS_EXPORT const aios_module_table aios_module = { \
      AIOS_CODELET_ABI, 3, ::aios::mapreduce::engine::Codelets<Job>::table};
