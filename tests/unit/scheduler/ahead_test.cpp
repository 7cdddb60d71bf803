// Brief tasks that are given to a context while those on which they depend are still there.
#include <algorithm>
#include <random>
#include <set>

#include "services/scheduler/core/parts/limits.hpp"
#include "tests/unit/scheduler/fixture.hpp"

using namespace aios::scheduler;
using aios::Code;
using aios::error;

namespace {

constexpr std::uint64_t brief_ns = 5000;

/// A core, and a context that does what the protocol says: each task is a batch of its own, which
/// begins when those before it have ended, and not at all when one of them failed.
class Ordered {
 public:
  explicit Ordered(bool keeps_order = true) {
    core.set_device(0, 2, true, "cpu0");
    if (keeps_order) core.set_keeps_order(0);
    tenant = *core.open_tenant(1, "job", 1000);
    CHECK(core.add_codelet(tenant, {}));
    for (std::uint64_t tag = 1; tag <= Brevity::least_samples; ++tag) {
      submit({task(tag)});
      REQUIRE(end_one(tag));
    }
  }

  void submit(const std::vector<TaskRecord>& records) {
    REQUIRE(core.submit(tenant, records, 1));
    run();
  }
  void run() {
    core.decide(1);
    for (auto actions = core.take_actions(); !actions.empty(); actions = core.take_actions()) {
      for (const Action& action : actions) {
        if (action.kind == Action::Kind::start) start(action.task);
        if (action.kind == Action::Kind::open_context) core.context_ready(action.job, 0);
      }
      core.decide(1);
    }
  }
  /// The task ends, if it is there and could have begun.
  bool end_one(std::uint64_t tag, Code code = Code::ok, std::uint64_t duration_ns = brief_ns) {
    const auto at = std::ranges::find(sent, tag, [](const auto& e) { return e.second.tag; });
    if (at == sent.end() || !can_begin(at->second)) return false;
    const Sent ended = at->second;
    if (code != Code::ok) failed.insert(at->first);
    sent.erase(at);
    order.push_back(tag);
    Core::RunReply reply{};
    reply.start_ns = 10;
    reply.end_ns = 10 + duration_ns;
    core.task_answered(ended.ref, code == Code::ok ? aios::Result<Core::RunReply>(reply)
                                                   : error(code, "it failed"));
    refuse_those_behind();
    run();
    return true;
  }
  void end_context(How how) {
    sent.clear();
    core.context_lost(1, 0);
    core.context_ended(1, 0, {how, "segmentation fault", true});
    core.context_ready(1, 0);
    run();
  }
  std::vector<std::uint64_t> sent_tags() const {
    std::vector<std::uint64_t> tags;
    for (const auto& [batch, one] : sent) tags.push_back(one.tag);
    return tags;
  }
  std::map<std::uint64_t, Code> results() {
    std::map<std::uint64_t, Code> all;
    Core::Completion some[100];
    while (const std::uint32_t n = core.take_completions(tenant, some))
      for (std::uint32_t i = 0; i < n; ++i) {
        CHECK(!all.contains(some[i].tag));
        all[some[i].tag] = static_cast<Code>(some[i].status);
      }
    return all;
  }

  struct Sent {
    std::uint64_t tag;
    TaskRef ref;
    std::vector<std::uint64_t> after;
  };
  Core core{make_priority_order(), make_eager_placement()};
  TenantId tenant = 0;
  std::map<std::uint64_t, Sent> sent;  ///< by batch
  std::set<std::uint64_t> failed;      ///< batches
  std::vector<std::uint64_t> order;    ///< of those that ran

 private:
  void start(TaskRef ref) {
    const Task* one = core.find(ref);
    if (one == nullptr || one->state != State::running) return;
    std::vector<std::uint64_t> after;
    if (one->doomed || !core.batches_before(*one, after)) return core.task_not_begun(ref);
    core.task_begun(ref, ++last_batch_);
    sent[last_batch_] = {one->record.tag, ref, after};
  }
  bool can_begin(const Sent& one) const {
    return std::ranges::none_of(one.after, [&](std::uint64_t b) { return sent.contains(b); });
  }
  void refuse_those_behind() {
    for (bool again = true; std::exchange(again, false);)
      for (const auto& [batch, one] : sent) {
        if (std::ranges::none_of(one.after, [&](std::uint64_t b) { return failed.contains(b); }))
          continue;
        failed.insert(batch);
        const TaskRef ref = one.ref;
        sent.erase(batch);
        core.task_not_begun(ref);
        again = true;
        break;
      }
  }
  std::uint64_t last_batch_ = 0;
};

using SentTags = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("What depends on brief tasks goes to the context behind them") {
  Ordered c;
  c.submit({task(11), task(12, {11}), task(13, {11}), task(14, {12, 13})});
  CHECK(c.sent_tags() == SentTags{11, 12, 13, 14});
  CHECK(!c.end_one(14));
  CHECK(!c.end_one(12));
  REQUIRE(c.end_one(11));
  REQUIRE(c.end_one(13));
  CHECK(!c.end_one(14));
  REQUIRE(c.end_one(12));
  REQUIRE(c.end_one(14));
  const auto results = c.results();
  CHECK(results.size() == Brevity::least_samples + 4);
  CHECK(std::ranges::all_of(results, [](const auto& r) { return r.second == Code::ok; }));
  CHECK(c.core.devices()[0].ahead == 0);
  CHECK(c.core.idle());
}

TEST_CASE("Nothing goes ahead where the context keeps no order, or the task must not run twice") {
  Ordered unordered(false);
  unordered.submit({task(11), task(12, {11})});
  CHECK(unordered.sent_tags() == SentTags{11});
  Ordered c;
  c.submit({task(11), once(task(12, {11})), task(13, {12})});
  CHECK(c.sent_tags() == SentTags{11});
  REQUIRE(c.end_one(11));
  CHECK(c.sent_tags() == SentTags{12});
}

TEST_CASE(
    "What overwrites the input of one that is there does not go ahead, however far behind it") {
  Ordered c;
  const auto buffer = [&] { return *c.core.add_buffer(c.tenant, true, 64); };
  const std::uint32_t a = buffer(), b = buffer();
  const auto uses = [](TaskRecord record, std::initializer_list<std::uint32_t> words) {
    for (const std::uint32_t word : words) record.buffers[record.buffer_count++] = word;
    return record;
  };
  constexpr std::uint32_t reads = AIOS_MODE_READ << 28, writes = AIOS_MODE_WRITE << 28,
                          both = AIOS_MODE_READ_WRITE << 28, scratch = AIOS_MODE_SCRATCH << 28;
  c.submit({uses(task(11), {a | reads, b | writes}), uses(task(12, {11}), {b | reads}),
            task(13, {12}), uses(task(14, {13}), {a | writes}), uses(task(15, {13}), {a | both}),
            uses(task(16, {13}), {a | scratch}), uses(task(17, {13}), {a | reads})});
  CHECK(c.sent_tags() == SentTags{11, 12, 13, 17});
  // Both have run, and neither was answered: they run again on what they had.
  c.end_context(How::fault);
  for (std::uint64_t tag : {11, 12, 13}) {
    CHECK(!c.end_one(14));
    REQUIRE(c.end_one(tag));
  }
  std::set<std::uint64_t> left{14, 15, 16, 17};
  while (!left.empty())
    REQUIRE(std::erase_if(left, [&](std::uint64_t tag) { return c.end_one(tag); }) > 0);
  CHECK(c.core.idle());
}

TEST_CASE("What is ahead keeps to the time that may be ahead") {
  Ordered c;
  std::vector<TaskRecord> chain{task(1001)};
  for (std::uint32_t tag = 1002; tag <= 1999; ++tag) chain.push_back(task(tag, {tag - 1}));
  c.submit(chain);
  const std::size_t most = 2 * max_ahead_ns_per_slot / brief_ns;
  CHECK(c.sent.size() == most);
  for (std::uint64_t tag = 1001; tag <= 1999; ++tag) {
    REQUIRE(c.end_one(tag));
    REQUIRE(c.sent.size() == std::min<std::size_t>(most, 1999 - tag));
  }
}

TEST_CASE("What is no longer known to be brief waits for what it depends on") {
  Ordered c;
  std::vector<TaskRecord> chain{task(1001)};
  for (std::uint32_t tag = 1002; tag <= 1999; ++tag) chain.push_back(task(tag, {tag - 1}));
  c.submit(chain);
  CHECK(c.sent.size() > 100);
  // From now on each takes long. What was sent stays, what was ready to be sent does not follow.
  for (std::uint64_t tag = 1001; tag <= 1999; ++tag) {
    REQUIRE(c.end_one(tag, Code::ok, 2'000'000));
    if (tag < 1020) continue;
    if (c.sent.empty()) {
      CHECK(tag == 1999);
      break;
    }
    if (!c.core.find(c.sent.rbegin()->second.ref)->brief) REQUIRE(c.sent.size() == 1);
  }
  CHECK(c.core.idle());
}

TEST_CASE("When one fails those that depend on it are cancelled, and the others run") {
  Ordered c;
  c.submit({task(11), task(12), task(13, {11, 12}), task(14, {12}), task(15, {14})});
  CHECK(c.sent.size() == 5);
  REQUIRE(c.end_one(11, Code::crashed));
  CHECK(c.sent_tags() == SentTags{12, 14, 15});
  for (const std::uint64_t tag : {12, 14, 15}) REQUIRE(c.end_one(tag));
  const auto results = c.results();
  CHECK(results.at(11) == Code::crashed);
  CHECK(results.at(13) == Code::cancelled);
  CHECK(results.at(15) == Code::ok);
  CHECK(c.core.idle());
}

TEST_CASE("What is behind one that failed is its context's until that has answered") {
  enum class Then { not_begun, ran_in_vain, context_ends };
  for (const Then then : {Then::not_begun, Then::ran_in_vain, Then::context_ends}) {
    Ordered c;
    c.submit({task(11), task(12, {11}), task(13, {12})});
    std::map<std::uint64_t, TaskRef> refs;
    for (const auto& [batch, one] : c.sent) refs[one.tag] = one.ref;
    REQUIRE(refs.size() == 3);
    c.core.task_answered(refs[11], error(Code::no_memory, "full"));
    auto results = c.results();
    CHECK(results.at(11) == Code::no_memory);
    CHECK(!results.contains(12));
    CHECK(c.core.devices()[0].ahead == 2);
    if (then == Then::context_ends) {
      c.end_context(How::killed);
    } else {
      if (then == Then::not_begun) c.core.task_not_begun(refs[12]);
      if (then == Then::ran_in_vain) c.core.task_answered(refs[12], Core::RunReply{});
      c.core.task_not_begun(refs[13]);
      c.run();
    }
    results = c.results();
    CHECK(results.at(12) == Code::cancelled);
    CHECK(results.at(13) == Code::cancelled);
    CHECK(*c.core.failure(c.tenant, 12) == "task 11, on which it depends, failed");
    CHECK(c.core.devices()[0].ahead == 0);
    CHECK(c.core.idle());
  }
}

TEST_CASE("A task that its context does not begin is sent again, but not without end") {
  Ordered c;
  c.submit({task(11)});
  for (std::uint32_t i = 0; i <= max_unbegun; ++i) {
    REQUIRE(c.sent.size() == 1);
    const TaskRef ref = c.sent.begin()->second.ref;
    c.sent.clear();
    c.core.task_not_begun(ref);
    c.run();
  }
  CHECK(c.sent.empty());
  CHECK(c.results().at(11) == Code::internal);
  CHECK(c.core.idle());
}

TEST_CASE("A tenant that is closed with tasks ahead is gone when those that were sent have ended") {
  Ordered c;
  c.submit({task(11), task(12, {11}), task(13, {12})});
  c.core.close_tenant(c.tenant);
  REQUIRE(c.end_one(11));
  REQUIRE(c.end_one(12));
  REQUIRE(c.end_one(13));
  CHECK(c.core.idle());
}

namespace {

/// What becomes of each task, by its own end and those of the tasks on which it depends.
std::map<std::uint64_t, Code> expected_results(
    const std::map<std::uint64_t, std::vector<std::uint32_t>>& graph,
    const std::set<std::uint64_t>& bad) {
  std::map<std::uint64_t, Code> results;
  for (const auto& [tag, needs] : graph) {
    const bool doomed =
        std::ranges::any_of(needs, [&](std::uint32_t n) { return results.at(n) != Code::ok; });
    results[tag] = doomed ? Code::cancelled : bad.contains(tag) ? Code::io_error : Code::ok;
  }
  return results;
}

}  // namespace

TEST_CASE("Random graphs, failures and ends of contexts: nothing begins too early or is lost") {
  for (std::uint32_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const auto below = [&](std::size_t n) { return static_cast<std::uint32_t>(random() % n); };
    Ordered c;
    (void)c.results();
    std::map<std::uint64_t, std::vector<std::uint32_t>> graph;
    std::set<std::uint64_t> bad;
    std::uint32_t next = 1000;
    std::map<std::uint64_t, Code> results;
    const auto fetch = [&] {
      for (const auto& [tag, code] : c.results()) results[tag] = code;
    };
    for (int step = 0; step < 400; ++step) {
      if (next < 1100 && below(3) == 0) {
        std::vector<TaskRecord> records;
        for (std::uint32_t n = 1 + below(8); n > 0; --n, ++next) {
          std::vector<std::uint32_t>& needs = graph[next];
          for (std::uint32_t k = below(4); k > 0 && next > 1000; --k)
            needs.push_back(next - 1 - below(std::min(next - 1000, 10u)));
          records.push_back(task(next, {}, static_cast<std::int32_t>(below(3))));
          for (const std::uint32_t tag : needs)
            records.back().dependencies[records.back().dependency_count++] = tag;
          if (below(30) == 0) bad.insert(next);
        }
        c.submit(records);
      } else if (below(60) == 0) {
        c.end_context(How::killed);
      } else if (const SentTags tags = c.sent_tags(); !tags.empty()) {
        const std::uint64_t tag = tags[below(tags.size())];
        c.end_one(tag, bad.contains(tag) ? Code::io_error : Code::ok);
      }
      fetch();
    }
    while (!c.sent.empty()) {
      const std::uint64_t tag = c.sent.begin()->second.tag;
      REQUIRE(c.end_one(tag, bad.contains(tag) ? Code::io_error : Code::ok));
    }
    fetch();
    REQUIRE(results == expected_results(graph, bad));
    REQUIRE(c.core.idle());
    REQUIRE(c.core.devices()[0].ahead == 0);
    // Each ran after those on which it depends.
    std::map<std::uint64_t, std::size_t> place;
    for (std::size_t i = 0; i < c.order.size(); ++i) place[c.order[i]] = i;
    for (const auto& [tag, needs] : graph)
      for (const std::uint32_t need : needs)
        if (place.contains(tag)) REQUIRE(place.at(need) < place.at(tag));
  }
}
