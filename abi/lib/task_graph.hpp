// A graph of tasks while it is built: which task has to wait for which follows from what they do to
// buffers, in the order in which they were added, as if they ran one after the other (sequential
// consistency), and from explicit edges. Knows no scheduler.
//
// Of one buffer readers may run at the same time; who writes it (WRITE, READ_WRITE, SCRATCH) waits
// for all before it. A REDUX task adds to the buffer in any order with the other ones around it:
// it is given one of the buffer's partial buffers instead, with READ_WRITE; tasks that initialise
// a partial and those that combine them all into the buffer are added where they are needed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "abi/proto/scheduler.hpp"
#include "abi/runtime/status.hpp"

namespace aios {

inline constexpr std::uint32_t mode_redux = 5;  ///< AIOS_MODE_REDUX of tasks.h

class TaskGraph {
 public:
  using Record = proto::scheduler::TaskRecord;
  /// What a task is called, by its number.
  using NameOf = std::function<std::string(std::uint32_t)>;
  static constexpr std::uint32_t max_tasks = 1u << 28;

  /// The task's number, counted from 0 with those that are added for reductions. Its tag and
  /// dependencies are not used. invalid_argument: it uses a buffer in two ways that contradict each
  /// other, or with REDUX where no reduction is set.
  Result<std::uint32_t> add(const Record& task);
  /// `after` starts when `before` is done. Tasks of any order; invalid_argument: no such task.
  Result<void> add_edge(std::uint32_t before, std::uint32_t after);
  /// These start together. invalid_argument: they are not 2 to max_gang different tasks, or one is
  /// of a gang already.
  Result<void> add_gang(std::span<const std::uint32_t> tasks);
  /// From now on REDUX tasks of `buffer` use `partials`. `initialise` is a codelet that writes one
  /// buffer; `combine` adds its second buffer to its first.
  Result<void> set_reduction(std::uint32_t buffer, std::span<const std::uint32_t> partials,
                             std::uint32_t initialise, std::uint32_t combine);

  struct Plan {
    std::vector<Record> records;          ///< in an order in which they can be submitted
    std::vector<std::uint32_t> position;  ///< of each task in `records`
  };
  /// Tags are `first_tag` and up, by position; gangs are numbered from 0. Joins stand for
  /// dependencies on more than 12 tasks. invalid_argument: tasks wait for one another in a circle;
  /// the text names them, as `name_of` has it.
  Result<Plan> plan(std::uint64_t first_tag, const NameOf& name_of = number_text);
  std::uint32_t size() const { return static_cast<std::uint32_t>(tasks_.size()); }

 private:
  struct Use {
    std::uint32_t buffer;
    std::uint32_t mode;
  };
  struct Data {
    std::uint32_t writer = none;
    std::vector<std::uint32_t> readers;  ///< since the writer
  };
  struct Reduction {
    std::vector<std::uint32_t> partials;
    std::uint32_t initialise = 0;
    std::uint32_t combine = 0;
    std::uint32_t used = 0;  ///< of the partials, since they were combined
    std::uint32_t next = 0;
  };
  static constexpr std::uint32_t none = ~0u;

  static std::string number_text(std::uint32_t task) { return std::to_string(task); }
  Result<void> check_uses(const Record& task) const;
  std::uint32_t add_plain(const Record& task);
  void use(std::uint32_t task, Use use);
  std::uint32_t partial_for(Reduction& reduction);
  void combine(std::uint32_t buffer, Reduction& reduction);
  void edge(std::uint32_t before, std::uint32_t after) { edges_.emplace_back(before, after); }
  void sort_edges();
  Result<std::vector<std::uint32_t>> order(const NameOf& name_of) const;
  std::unexpected<Status> circle(const std::vector<std::uint32_t>& waiting_for,
                                 const NameOf& name_of) const;
  std::span<const std::pair<std::uint32_t, std::uint32_t>> edges_to(std::uint32_t task) const;

  std::vector<Record> tasks_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> edges_;  ///< before, after
  std::vector<std::uint32_t> first_edge_;  ///< of each task, once sorted by the later one
  bool any_backward_ = false;
  std::uint32_t gangs_ = 0;
  std::map<std::uint32_t, Data> data_;
  std::map<std::uint32_t, Reduction> reductions_;
};

}  // namespace aios
