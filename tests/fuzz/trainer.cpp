#include <cstring>

#include "services/scheduler/trainer/trainer_server.hpp"
#include "tests/fuzz/target.hpp"

namespace {

using namespace aios;
using scheduler::TreeFeatures;
using scheduler::TreeNode;
using scheduler::trainer::Booster;

/// In place of a library, which is not what is fuzzed.
class OneLeaf final : public Booster {
 public:
  std::string name() const override { return "one leaf"; }
  Result<Forest> fit(std::span<const TreeFeatures>, std::span<const float>, std::span<const float>,
                     const std::function<bool()>&) override {
    return Forest{{0}, {{0.5F, TreeNode::leaf, 0}}};
  }
};

/// Enough runs for a training, and too few.
std::vector<std::byte> some_runs() {
  const scheduler::TreesKey key{{7, 1000, "work"}, "cpu", false};
  scheduler::KeyRuns many{key, {}}, few{{{7, 1000, "work"}, "gpu", true}, {}};
  for (int i = 0; i < 80; ++i) {
    const auto x = static_cast<float>(i * 37 % 80);
    many.runs.push_back({{x, 1}, 2 * x, 9});
  }
  few.runs.assign(3, {{1}, 2, 3});
  return scheduler::write_runs({many, few});
}

struct TrainerHost : fuzz::Host {
  explicit TrainerHost(fuzz::Place place)
      : trainer(place.kernel, place.loop, std::make_unique<OneLeaf>()) {
    if (!trainer.prepare() || !trainer.listen(place.port)) std::abort();
  }
  /// A training is done in no time here; a request that the server need not read yet is no reason
  /// to stand still.
  std::uint64_t wait_ns() const override { return 20 * ns_per_ms; }
  std::span<const std::byte> contents() const override { return runs; }
  /// A length that fits is not found by chance.
  void guard(std::uint16_t opcode, std::span<std::byte> request) override {
    proto::trainer::Train::Request train;
    if (opcode != proto::trainer::Train::opcode || request.size() != sizeof train) return;
    std::memcpy(&train, request.data(), sizeof train);
    if (train.runs_bytes % 4 == 0) train.runs_bytes = runs.size();
    std::memcpy(request.data(), &train, sizeof train);
  }
  const std::vector<std::byte> runs = some_runs();
  scheduler::trainer::TrainerServer trainer;
};

}  // namespace

AIOS_FUZZ_SERVER(proto::trainer::Protocol, TrainerHost)
