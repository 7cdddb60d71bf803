#include "services/mapreduce/run_store.hpp"

namespace aios::mapreduce {

void RunStore::add(std::uint64_t split, std::uint32_t sequence, RunInfo info, Slice slice,
                   std::uint64_t bytes) {
  Run& run = runs_[{split, sequence}];
  run.info = std::move(info);
  run.bytes = bytes;
  run.object = ++last_object_;
  run.slice = slice;
}

std::vector<Run*> RunStore::in_order() {
  std::vector<Run*> all;
  for (auto& [place, run] : runs_) all.push_back(&run);
  return all;
}

bool RunStore::spill(std::uint64_t bytes) {
  std::vector<Run*> candidates;
  for (auto& [place, run] : runs_)
    if (!run.spilled() && !run.spilling) candidates.push_back(&run);
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Run* a, const Run* b) { return a->slice.bytes > b->slice.bytes; });
  std::uint64_t freed = 0;
  for (Run* run : candidates) {
    if (freed >= bytes) break;
    run->spilling = true;
    ++spilling_;
    freed += run->slice.bytes;
    Slice stored = run->slice;
    stored.bytes = run->bytes;
    ++job_.progress.transfers;
    job_.actions.emplace_back(PutRun{run->object, stored});
  }
  return freed != 0;
}

void RunStore::put_done(std::uint64_t object) {
  for (auto& [place, run] : runs_) {
    if (run.object != object || !run.spilling) continue;
    run.spilling = false;
    --spilling_;
    job_.progress.spilled_bytes += run.bytes;
    job_.pool.free(run.slice);
    return;
  }
}

std::uint64_t RunStore::memory_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [place, run] : runs_)
    if (!run.spilling) bytes += run.slice.bytes;
  return bytes;
}

}  // namespace aios::mapreduce
