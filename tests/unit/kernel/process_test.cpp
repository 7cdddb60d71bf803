#include "kernel/process.hpp"

#include "tests/unit/kernel/fixture.hpp"

using namespace aios;
using namespace aios::kernel;

TEST_CASE("A dead process releases all it held, but not what others hold of it") {
  World world;
  const auto job = world.job("job");
  const auto watcher = world.process("watcher");
  const auto process = world.process("process", job);
  const Handle handle = *watcher->handles.install(Reference(process, Process::handle_rights, 0));
  const auto port = world.port("p");
  REQUIRE(process->give("port", Reference(port, rights::all, 0), false));
  process->die({9, true});
  CHECK(signals_of(*watcher, handle) == signal::exited);
  CHECK(port->reference_count() == 0);
  CHECK(job->used().processes == 0);
  CHECK(job->used().handles == 0);
  CHECK(job->used().memory_bytes == 0);
  CHECK((*watcher->handles.get<Process>(handle, 0))->exit_status().code == 9);
}

TEST_CASE("A handle to a dead process has exited raised from the start") {
  World world;
  const auto watcher = world.process("watcher");
  const auto process = world.process("process");
  process->die({});
  const Handle handle = *watcher->handles.install(Reference(process, rights::wait, 0));
  CHECK(signals_of(*watcher, handle) == signal::exited);
}

TEST_CASE("A handle without wait does not tell of the exit") {
  World world;
  const auto watcher = world.process("watcher");
  const auto process = world.process("process");
  const Handle handle = *watcher->handles.install(Reference(process, rights::info, 0));
  process->die({});
  CHECK(signals_of(*watcher, handle) == 0);
}

TEST_CASE("Signals raised before the pages are there ring the doorbell when it is made") {
  World world;
  const auto process = std::make_shared<Process>(world.registry, world.registry.next_id++,
                                                 Process::Kind::child, Name::from("early"));
  REQUIRE(process->join(world.root));
  world.root->standing = signal::shutdown;
  REQUIRE(process->give("root", Reference(world.root, rights::all, 0), false));
  REQUIRE(process->open_pages());
  const Mapping page =
      *Mapping::map(process->kernel_page().read_only(), proto::page_bytes, Mapping::Access::read);
  CHECK(reinterpret_cast<const proto::KernelPage*>(page.data())->signals.load() == 1);
}

TEST_CASE("A job's quota of processes refuses one more") {
  World world;
  const auto job = world.job("job", {.processes = 1});
  const auto first = world.process("first", job);
  Process second(world.registry, 99, Process::Kind::child, Name::from("second"));
  CHECK(code_of(second.join(job)) == Code::quota);
  first->die({});
  CHECK(second.join(job));
}
