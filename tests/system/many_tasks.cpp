// Submits so many empty tasks at once and waits for all: many_tasks HOW COUNT MODULE. HOW is
// `graph`, one graph of chains; `many`, one call; `each`, batches of 1,024, as many as are taken
// before one is fetched; `deadline`, a graph that is to be done in time. Prints what came of it.
#include <aios/aios.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::uint64_t patience_ns = 600'000'000'000;
constexpr std::uint32_t chains = 1000;

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        std::chrono::steady_clock::now().time_since_epoch())
                                        .count());
}

struct Counts {
  std::size_t done = 0;
  std::size_t failed = 0;
  std::size_t refused = 0;  ///< submissions that were tried again
};

class Program {
 public:
  explicit Program(const char* module)
      : tenant_(instance_.tenant(patience_ns)), codelet_(tenant_.codelet(module, "count")) {}

  aios::Task task(std::uint64_t tag) const {
    aios::Task made(tag, codelet_);
    made.record().flags = AIOS_TASK_IDEMPOTENT;
    return made;
  }

  Counts graph(std::uint32_t count, bool has_deadline) {
    aios_graph* graph = nullptr;
    aios::check(aios_graph_create(tenant_.get(), &graph));
    for (std::uint32_t i = 0; i < count; ++i) {
      std::uint32_t number = 0;
      const aios::Task one = task(1);
      aios::check(aios_graph_add(graph, reinterpret_cast<const aios_task_record*>(&one), &number));
      if (number >= chains) aios::check(aios_graph_add_edge(graph, number - chains, number));
    }
    if (has_deadline) aios::check(aios_graph_set_deadline(graph, now_ns() + patience_ns));
    aios::check(aios_graph_submit(graph, patience_ns));
    Counts counts;
    aios::check(aios_graph_wait(graph, patience_ns, &counts.failed));
    counts.done = count - counts.failed;
    aios_graph_free(graph);
    return counts;
  }

  Counts many(std::uint32_t count) {
    std::vector<aios::Task> tasks;
    for (std::uint32_t i = 0; i < count; ++i) tasks.push_back(task(i + 1));
    tasks.push_back(tasks.back());
    std::size_t taken = 0;
    try {
      tenant_.submit_many(tasks);
      throw aios::Error(AIOS_INTERNAL, "a tag was taken twice");
    } catch (const aios::SubmitError& refused) {
      taken = refused.taken();
    }
    // The batch with that tag was refused, and is submitted without it.
    if (taken < count) tenant_.submit_many(std::span(tasks).subspan(taken, count - taken));
    Counts counts;
    while (counts.done + counts.failed < count) take(counts);
    return counts;
  }

  Counts each(std::uint32_t count) {
    Counts counts;
    std::uint32_t submitted = 0;
    while (counts.done + counts.failed < count) {
      std::vector<aios::Task> batch;
      for (std::uint32_t i = submitted; i < std::min(count, submitted + 1024); ++i)
        batch.push_back(task(i + 1));
      try {
        if (!batch.empty()) tenant_.submit(batch);
        submitted += static_cast<std::uint32_t>(batch.size());
        if (submitted < count) continue;
      } catch (const aios::Error& full) {
        if (full.code() != AIOS_QUOTA) throw;
        if (counts.refused++ == 0) std::printf("said %s\n", full.what());
      }
      take(counts);
    }
    return counts;
  }

 private:
  void take(Counts& counts) {
    const auto ended = tenant_.completions(patience_ns);
    if (ended.empty()) throw aios::Error(AIOS_TIMED_OUT, "nothing ends any more");
    for (const aios_completion& one : ended)
      ++(one.status == AIOS_OK && one.result[0] == 1 ? counts.done : counts.failed);
  }

  aios::Instance instance_;
  aios::Tenant tenant_;
  std::uint32_t codelet_;
};

}  // namespace

namespace {

Counts run(Program& program, std::string_view how, std::uint32_t count) {
  if (how == "many") return program.many(count);
  if (how == "each") return program.each(count);
  return program.graph(count, how == "deadline");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  int code = 0;
  // It stays until the end, and with it the context that its tasks ran in.
  std::optional<Program> program;
  try {
    program.emplace(argv[3]);
    const std::uint64_t begun_ns = now_ns();
    const auto count = static_cast<std::uint32_t>(std::stoul(argv[2]));
    const Counts counts = run(*program, argv[1], count);
    std::printf("done %zu failed %zu refused %zu seconds %.3f\n", counts.done, counts.failed,
                counts.refused, static_cast<double>(now_ns() - begun_ns) / 1e9);
  } catch (const std::exception& failure) {
    std::printf("refused %s\n", failure.what());
    code = 1;
  }
  std::fflush(stdout);
  // Until somebody has looked at its memory.
  (void)std::getchar();
  return code;
}
