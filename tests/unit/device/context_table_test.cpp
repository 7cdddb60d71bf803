#include "drivers/device/context_table.hpp"

#include <doctest/doctest.h>

using namespace aios;
using namespace aios::device;
using proto::driver::ContextEnd;

namespace {

ContextKey on_first(std::uint64_t job) {
  return {0, job};
}

/// Each job is another user's, unless `uid` says otherwise.
Context context_of(std::uint64_t job, std::uint32_t generation = 1, std::uint32_t device = 0,
                   std::uint32_t uid = 0) {
  return {.key = {device, job},
          .generation = generation,
          .uid = uid != 0 ? uid : static_cast<std::uint32_t>(1000 + job),
          .process = job * 10,
          .port = job * 10 + 1,
          .process_id = job * 100};
}

std::string label_of(KeptPart part, std::uint64_t job, std::uint32_t generation) {
  return kept_label(part, on_first(job), generation);
}

KeptHandle kept(KeptPart part, std::uint64_t job, std::uint32_t generation, Handle handle) {
  return {label_of(part, job, generation), handle};
}

}  // namespace

TEST_CASE("The longest labels fit and are read back") {
  const ContextKey key{max_devices - 1, UINT64_MAX};
  std::vector<KeptHandle> kept;
  for (const KeptPart part : {KeptPart::process, KeptPart::port}) {
    const std::string label = kept_label(part, key, UINT32_MAX);
    CHECK(proto::kernel::Label::fits(label));
    kept.push_back({std::string(proto::kernel::Label::from(label).view()), kept.size() + 1});
  }
  const Adoption plan = plan_adoption(kept);
  REQUIRE(plan.contexts.size() == 1);
  CHECK(plan.contexts[0].key == key);
  CHECK(plan.contexts[0].generation == UINT32_MAX);
}

TEST_CASE("A successor adopts each job's latest complete pair and drops the rest") {
  const Adoption plan = plan_adoption({
      kept(KeptPart::port, 0xabc, 1, 11),
      kept(KeptPart::process, 0xabc, 1, 12),
      kept(KeptPart::port, 0xabc, 2, 21),
      kept(KeptPart::process, 0xabc, 2, 22),
      kept(KeptPart::port, 0xabc, 3, 31),
      kept(KeptPart::process, UINT64_MAX, 7, 42),
      kept(KeptPart::port, UINT64_MAX, 7, 41),
  });
  REQUIRE(plan.contexts.size() == 2);
  CHECK(plan.contexts[0].key.tenant_job_id == 0xabc);
  CHECK(plan.contexts[0].generation == 2);
  CHECK(plan.contexts[0].port == 21);
  CHECK(plan.contexts[0].process == 22);
  CHECK(plan.contexts[1].key.tenant_job_id == UINT64_MAX);
  CHECK(plan.contexts[1].generation == 7);
  REQUIRE(plan.useless.size() == 3);
  CHECK(plan.useless[0].label == label_of(KeptPart::process, 0xabc, 1));
  CHECK(plan.useless[0].handle == 12);
  CHECK(plan.useless[1].handle == 11);
  CHECK(plan.useless[2].handle == 31);
}

TEST_CASE("A successor adopts owners of memory of which both parts were kept, and drops the rest") {
  const Adoption plan = plan_adoption({
      kept(KeptPart::owner_port, 0xabc, 0, 11),
      kept(KeptPart::port, 0xabc, 3, 31),
      kept(KeptPart::owner_process, 0xabc, 0, 12),
      kept(KeptPart::process, 0xabc, 3, 32),
      kept(KeptPart::owner_port, 0xdef, 0, 21),
  });
  CHECK(plan.contexts.size() == 1);
  REQUIRE(plan.owners.size() == 1);
  CHECK(plan.owners[0].key.tenant_job_id == 0xabc);
  CHECK(plan.owners[0].port == 11);
  CHECK(plan.owners[0].process == 12);
  REQUIRE(plan.useless.size() == 1);
  CHECK(plan.useless[0].label == label_of(KeptPart::owner_port, 0xdef, 0));
  CHECK(plan.useless[0].handle == 21);
}

TEST_CASE("Labels of another form are left alone") {
  const Adoption plan = plan_adoption({{"port", 1},
                                       {"c-p:", 2},
                                       {"c-p:0:zz:1", 3},
                                       {"c-p:1:1", 4},
                                       {"c-x:0:1:1", 5},
                                       {"c-a:0:1:1x", 6},
                                       {"c-a:0:1:100000000", 7},
                                       {"c-a:10:1:1", 8}});
  CHECK(plan.contexts.empty());
  CHECK(plan.useless.empty());
}

TEST_CASE("A table full of living contexts refuses another tenant") {
  ContextTable table;
  for (std::uint64_t job = 1; job <= max_contexts; ++job) {
    REQUIRE(table.make_room());
    table.insert(context_of(job));
  }
  CHECK(table.alive(0) == max_contexts);
  CHECK(table.make_room().error().code() == Code::quota);
}

TEST_CASE("The context that ended first gives up its place") {
  ContextTable table;
  for (std::uint64_t job = 1; job <= max_contexts; ++job) table.insert(context_of(job));
  table.ended(*table.find(on_first(5)), {ContextEnd::fault, "x"});
  table.ended(*table.find(on_first(3)), {ContextEnd::killed, "y"});
  const auto evicted = table.make_room();
  REQUIRE(evicted);
  REQUIRE(*evicted);
  CHECK((*evicted)->key.tenant_job_id == 5);
  CHECK(table.find(on_first(5)) == nullptr);
  CHECK(table.find(on_first(3)) != nullptr);
}

TEST_CASE("An ended context stays, with its cause, until it is removed") {
  ContextTable table;
  table.insert(context_of(1));
  table.ended(*table.find_process(10), {ContextEnd::limit, "too long"});
  CHECK(table.alive(0) == 0);
  CHECK(table.find(on_first(1))->end.cause == "too long");
  CHECK(table.remove(on_first(1))->end.how == ContextEnd::limit);
  CHECK(!table.remove(on_first(1)));
  table.insert(context_of(1, 2));
  CHECK(table.alive(0) == 1);
  CHECK(table.restarts(0) == 1);
  CHECK(table.find_process(99) == nullptr);
}

TEST_CASE("A tenant has a context on each device") {
  ContextTable table;
  table.insert(context_of(1, 1, 0));
  table.insert(context_of(1, 2, 1));
  table.ended(*table.find({1, 1}), {ContextEnd::fault, "x"});
  CHECK(table.find({0, 1})->alive);
  CHECK(table.alive(0) == 1);
  CHECK(table.alive(1) == 0);
  CHECK(table.restarts(0) == 0);
  CHECK(table.restarts(1) == 1);
}

TEST_CASE("One user does not take every context") {
  ContextTable table;
  for (std::uint64_t job = 1; job <= max_contexts_per_user; ++job) {
    REQUIRE(table.may_have_another(7));
    table.insert(context_of(job, 1, 0, 7));
  }
  CHECK(table.may_have_another(7).error().code() == Code::quota);
  CHECK(table.may_have_another(8));
  table.ended(*table.find(on_first(1)), {ContextEnd::exited, "done"});
  CHECK(table.may_have_another(7));
}
