#include "kernel/job.hpp"

#include <string>

#include "kernel/limits.hpp"
#include "tests/unit/kernel/fixture.hpp"

using namespace aios;
using namespace aios::kernel;

TEST_CASE("What a job uses is charged to all its ancestors") {
  World world;
  const auto parent = world.job("parent");
  const auto child = *parent->make_child(9, Name::from("child"), {});
  REQUIRE(child->charge(Job::memory, 4096));
  CHECK(child->used().memory_bytes == 4096);
  CHECK(parent->used().memory_bytes == 4096);
  CHECK(world.root->used().memory_bytes == 4096);
  child->release(Job::memory, 4096);
  CHECK(world.root->used().memory_bytes == 0);
}

TEST_CASE("A quota of an ancestor stops a child whose own quota is free, and charges nothing") {
  World world;
  const auto parent = world.job("parent", {.links = 2});
  const auto child = *parent->make_child(9, Name::from("child"), {.links = 5});
  REQUIRE(child->charge(Job::links, 2));
  CHECK(code_of(child->charge(Job::links, 1)) == Code::quota);
  CHECK(child->used().links == 2);
  CHECK(world.root->used().links == 2);
  child->release(Job::links, 2);
}

TEST_CASE("A charge of more than any number fits is refused") {
  World world;
  REQUIRE(world.root->charge(Job::memory, 4096));
  CHECK(code_of(world.root->charge(Job::memory, ~0ull)) == Code::quota);
  world.root->release(Job::memory, 4096);
}

TEST_CASE("A held charge ends with what holds it") {
  World world;
  {
    const auto charge = world.root->hold(Job::processes, 3);
    REQUIRE(charge);
    CHECK(world.root->used().processes == 3);
  }
  CHECK(world.root->used().processes == 0);
}

TEST_CASE("A tree of jobs has a limited depth") {
  World world;
  auto job = world.root;
  for (std::uint32_t depth = 1; depth < limits::job_depth; ++depth)
    job = *job->make_child(100 + depth, Name::from("deeper"), {});
  CHECK(code_of(job->make_child(999, Name::from("too-deep"), {})) == Code::quota);
}

TEST_CASE("A killed job refuses children, processes and keeping, and so does what is below it") {
  World world;
  const auto parent = world.job("parent");
  const auto child = *parent->make_child(9, Name::from("child"), {});
  parent->mark_killed();
  CHECK(child->killed());
  CHECK(code_of(child->make_child(10, Name::from("x"), {})) == Code::denied);
  CHECK(code_of(child->keep("label", Reference(world.port("p"), 0, 0))) == Code::denied);
  Process process(world.registry, 11, Process::Kind::child, Name::from("x"));
  CHECK(code_of(process.join(child)) == Code::denied);
  CHECK(world.root->find_child("parent") == nullptr);
}

TEST_CASE("Jobs contain themselves and what is below them") {
  World world;
  const auto a = world.job("a");
  const auto below = *a->make_child(9, Name::from("below"), {});
  const auto b = world.job("b");
  CHECK(a->contains(*a));
  CHECK(a->contains(*below));
  CHECK(world.root->contains(*below));
  CHECK_FALSE(below->contains(*a));
  CHECK_FALSE(a->contains(*b));
  CHECK(below->top_id() == a->id());
  CHECK(world.root->top_id() == world.root->id());
}

TEST_CASE("The last process leaving a job raises empty on it and on its emptied ancestors") {
  World world;
  const auto watcher = world.process("watcher");
  const auto job = world.job("job");
  const auto below = *job->make_child(99, Name::from("below"), {});
  const Handle handle = *watcher->handles.install(Reference(job, rights::wait, 0));
  auto first = world.process("first", below);
  auto second = world.process("second", job);
  first->die({});
  CHECK(signals_of(*watcher, handle) == 0);
  second->die({});
  CHECK(signals_of(*watcher, handle) == signal::empty);
}

TEST_CASE("Keeping replaces, forgets, is limited, and is charged as a handle") {
  World world;
  const auto job = world.job("job");
  const Handle hold = *world.process("holder")->handles.install(Reference(job, 0, 0));
  CHECK(hold != 0);
  const auto before = job->used().handles;
  REQUIRE(job->keep("a", Reference(world.port("one"), 1, 0)));
  REQUIRE(job->keep("a", Reference(world.port("two"), 1, 0)));
  CHECK(job->used().handles == before + 1);
  CHECK(job->kept().at("a").first.object()->name().view() == "two");
  REQUIRE(job->keep("a", {}));
  CHECK(job->used().handles == before);
  CHECK(code_of(job->keep("a", {})) == Code::not_found);
  for (std::size_t i = 0; i < limits::kept_per_job; ++i)
    REQUIRE(job->keep(std::to_string(i), Reference(world.port("p"), 0, 0)));
  CHECK(code_of(job->keep("one more", Reference(world.port("p"), 0, 0))) == Code::quota);
  job->mark_killed();
  CHECK(job->used().handles == before);
}

TEST_CASE("A job cannot keep itself or a job above it") {
  World world;
  const auto job = world.job("job");
  CHECK(code_of(job->keep("x", Reference(job, 0, 0))) == Code::invalid_argument);
  CHECK(code_of(job->keep("x", Reference(world.root, 0, 0))) == Code::invalid_argument);
  const auto below = *job->make_child(9, Name::from("below"), {});
  REQUIRE(job->keep("x", Reference(below, 0, 0)));
}

TEST_CASE("A job without processes and handles lets go of what it keeps") {
  World world;
  std::weak_ptr<Port> port;
  {
    const auto process = world.process("holder");
    const Handle handle =
        *process->handles.install(Reference(world.job("job"), Job::handle_rights, 0));
    const auto kept = world.port("p");
    port = kept;
    const auto job = *process->handles.get<Job>(handle, 0);
    REQUIRE(job->keep("p", Reference(kept, 0, 0)));
    REQUIRE(process->handles.close(handle));
  }
  CHECK(port.expired());
  CHECK(world.root->used().handles == 0);
}

TEST_CASE("Epochs grow by name, also when a job has forgotten the name") {
  World world;
  CHECK(world.root->next_epoch("a") == 1);
  CHECK(world.root->next_epoch("a") == 2);
  CHECK(world.root->next_epoch("b") == 1);
  for (std::size_t i = 0; i < 2 * limits::epoch_names; ++i)
    world.root->next_epoch("other-" + std::to_string(i));
  CHECK(world.root->next_epoch("a") > 2);
}

TEST_CASE("Names are of file-name characters and not only dots") {
  CHECK(is_name("cpu-context_1.2"));
  CHECK_FALSE(is_name(""));
  CHECK_FALSE(is_name("."));
  CHECK_FALSE(is_name(".."));
  CHECK_FALSE(is_name("a/b"));
  CHECK_FALSE(is_name("a b"));
  CHECK_FALSE(is_name("user:0"));
  CHECK_FALSE(is_name(proto::kernel::contexts_job));
}
