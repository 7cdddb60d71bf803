// A graph file at work on this machine, partition by partition: buffers are made, tasks submitted,
// and what is kept is written when all of a partition is done.
//
// A partition of which a task may have half run is begun anew, from new buffers: codelets reach
// nothing else, so that is as if it had never begun.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "abi/lib/mapreduce/devices.hpp"
#include "abi/lib/mapreduce/input.hpp"
#include "abi/lib/mapreduce/output.hpp"
#include "abi/lib/task_graph.hpp"
#include "tools/aiosctl/graphs/graph_file.hpp"
#include "tools/aiosctl/graphs/graph_places.hpp"

namespace aios::ctl {

struct TaskReport {
  proto::scheduler::Completion done{};
  std::uint32_t codelet = 0;            ///< its place in the graph: a cheaper one, perhaps
  std::string why{};                    ///< it failed
  std::set<std::size_t> parents{};      ///< places in the partition, of the tasks it waited for
  std::string device{};                 ///< empty: the scheduler no longer knows
  std::optional<double> predicted_s{};  ///< its time on that device, when it was placed there
  std::optional<TaskPlace> placed{};    ///< if the scheduler still knew

  /// Where it is known, without what others had of its threads meanwhile.
  std::uint64_t run_ns() const {
    if (placed && placed->alone_ns != 0) return placed->alone_ns;
    return done.end_ns - std::min(done.end_ns, done.start_ns);
  }
};

struct PartitionReport {
  std::vector<std::uint32_t> places{};  ///< of its tasks in the graph
  std::string input{};                  ///< of a template
  std::vector<TaskReport> tasks{};      ///< as in `places`; none before they have run
  std::uint32_t attempts = 0;
  std::uint64_t submitted_ns = 0;
  std::uint64_t ended_ns = 0;
  std::vector<std::string> outputs{};  ///< names of files
  std::optional<Status> failure{};     ///< the first
  bool skipped = false;                ///< its input is bad, and the run went on without it

  bool begun() const { return attempts != 0 || failure; }
};

/// What a partition's kept buffer is called: as in the graph, and a template's by its input's
/// number.
std::string output_name(const GraphSource& source, std::size_t partition,
                        const std::string& buffer);

class GraphRun {
 public:
  struct Options {
    std::uint64_t memory_bytes = 0;  ///< of partitions at work, together; 0: no limit
    bool allow_cheaper = false;      ///< to all tasks
    /// Files that are empty, that their probe or a task failed on, or of which an amount of the
    /// template makes no sense, skipped rather than fail the run; never those for which only the
    /// run has too little memory.
    std::uint64_t max_bad_inputs = 0;
    std::function<bool()> keep_going;
  };
  using Admitted = TaskTenant::Admitted;

  /// A partition for each of `inputs` where the source is a template. `output` may be none; the
  /// caller commits it. Source, output and kernel outlive this object.
  static Result<std::unique_ptr<GraphRun>> open(Kernel& kernel, const GraphSource& source,
                                                std::vector<mapreduce_client::InputFile> inputs,
                                                mapreduce_client::OutputFolder* output,
                                                Options options);
  GraphRun(const GraphRun&) = delete;

  /// Before `run`: all of a graph is to be done by then. Nothing of it runs when it is refused.
  Result<Admitted> admit(std::uint64_t due_ns);
  /// Until all partitions have ended, or one has failed that is not skipped, and those that had
  /// begun have ended.
  Result<void> run();
  /// Before `run`: asks `scheduler`, which outlives this object, where tasks ran while they do, for
  /// it remembers only the last 8,192 placements.
  Result<void> follow_placements(Client& scheduler);
  /// Adds where tasks ran and what was predicted, as far as `scheduler` still knows.
  Result<void> ask_for_placements(Client& scheduler);

  const std::vector<PartitionReport>& partitions() const { return reports_; }
  /// By number; after `ask_for_placements`.
  const std::vector<proto::scheduler::DeviceNext::Reply>& devices() const { return devices_; }
  /// When the first task was submitted.
  std::uint64_t submitted_ns() const { return submitted_ns_; }

 private:
  using Record = mapreduce_client::DeviceTasks::Record;
  using Completion = mapreduce_client::DeviceTasks::Completion;

  struct Part {
    std::size_t number;
    GraphFile own{};  ///< of a template
    std::uint64_t bytes = 0;
    std::optional<std::uint32_t> input_buffer{};
    /// As registered, by place in the graph.
    std::map<std::uint32_t, std::optional<std::uint32_t>> buffers{};
    std::map<std::uint32_t, Region> memory{};
    std::uint64_t first_tag = 0;
    TaskGraph::Plan plan{};
    std::vector<Completion> ended{};
    std::size_t unfinished = 0;
    bool probing = false;
  };
  using Parts = std::list<Part>;
  /// Whose a failure is. Codes alone do not tell: too little memory for a run is too_large as well.
  enum class Fault { input, run };

  GraphRun(Kernel& kernel, const GraphSource& source,
           std::vector<mapreduce_client::InputFile> inputs, mapreduce_client::OutputFolder* output,
           Options options);
  Result<void> register_codelets();
  const GraphFile& graph_of(const Part& part) const;

  Result<void> begin_some();
  Result<void> begin(std::size_t number);
  Result<void> lend_input(Part& part);
  void probe(Parts::iterator part);
  Result<void> await_turn(Parts::iterator part, std::span<const std::uint64_t> results);
  bool has_room(const Part& part) const;
  Result<void> start(Parts::iterator part);
  Result<void> make_buffers(Part& part);
  Result<Region> memory_of(const GraphFile::Buffer& buffer);
  Result<TaskGraph::Plan> plan_of(const Part& part);
  bool may_be_cheaper(const Record& record) const;

  Result<void> take(const Completion& done);
  Result<void> probed(Parts::iterator part, const Completion& done);
  Result<void> finish(Parts::iterator part);
  std::vector<TaskReport> reports_of(const Part& part);
  bool is_to_begin_anew(const PartitionReport& report) const;
  Result<void> keep(const Part& part);
  Result<void> let_go(Part& part);
  static Fault fault_of(Code failure);
  Result<void> fail(Parts::iterator part, const Status& why, Fault fault);
  void failed(PartitionReport& report, Fault fault);

  Kernel& kernel_;
  const GraphSource& source_;
  std::vector<mapreduce_client::InputFile> inputs_;
  mapreduce_client::OutputFolder* output_;
  Options options_;
  std::unique_ptr<mapreduce_client::DeviceTasks> tasks_;
  std::vector<std::uint32_t> codelets_;
  std::vector<PartitionReport> reports_;
  std::vector<proto::scheduler::DeviceNext::Reply> devices_;
  std::optional<GraphPlaces> places_;
  std::uint32_t ended_since_ = 0;                    ///< since the placements were asked for
  Parts parts_;                                      ///< under way
  std::deque<Parts::iterator> waiting_;              ///< for memory, in order
  std::map<std::uint64_t, Parts::iterator> tagged_;  ///< by their first tag
  std::size_t next_ = 0;
  std::size_t running_tasks_ = 0;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t skipped_ = 0;
  bool failed_ = false;
  bool has_deadline_ = false;
  bool runs_cheaper_ = false;  ///< all tasks that may be
  std::uint64_t submitted_ns_ = 0;
};

}  // namespace aios::ctl
