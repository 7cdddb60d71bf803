#include "kernel/handle_table.hpp"

#include <set>
#include <vector>

#include "kernel/limits.hpp"
#include "tests/unit/kernel/fixture.hpp"

using namespace aios;
using namespace aios::kernel;

namespace {

struct Table {
  World world;
  int wakes = 0;
  HandleTable table{[this] { ++wakes; }};
  Table() { table.set_job(world.root); }
  Handle add(std::shared_ptr<Object> object, std::uint32_t use = rights::all,
             std::uint64_t tenant = 0) {
    const auto handle = table.install(Reference(std::move(object), use, use), tenant);
    REQUIRE(handle);
    return *handle;
  }
};

}  // namespace

TEST_CASE("A handle is never zero and names what was installed") {
  Table t;
  const auto port = t.world.port("p");
  const Handle handle = t.add(port);
  CHECK(handle != 0);
  CHECK(*t.table.get<Port>(handle, 0) == port);
  CHECK(code_of(t.table.find(0)) == Code::bad_handle);
}

TEST_CASE("A closed handle is stale even when its slot is used again") {
  Table t;
  const Handle old = t.add(t.world.port("a"));
  REQUIRE(t.table.close(old));
  const Handle fresh = t.add(t.world.port("b"));
  CHECK(static_cast<std::uint32_t>(old) == static_cast<std::uint32_t>(fresh));
  CHECK(old != fresh);
  CHECK(code_of(t.table.find(old)) == Code::bad_handle);
  CHECK(code_of(t.table.close(old)) == Code::bad_handle);
  CHECK(t.table.find(fresh));
}

TEST_CASE("A handle of another type is wrong_type, one without the right is denied") {
  Table t;
  const Handle handle = t.add(t.world.port("p"), rights::info);
  CHECK(code_of(t.table.get<Job>(handle, 0)) == Code::wrong_type);
  CHECK(code_of(t.table.get<Port>(handle, rights::accept)) == Code::denied);
  CHECK(code_of(t.table.get<Port>(handle, rights::info | rights::accept)) == Code::denied);
  CHECK(t.table.get<Port>(handle, rights::info));
}

TEST_CASE("A full table refuses one more handle and takes it after a close") {
  Table t;
  const auto port = t.world.port("p");
  std::vector<Handle> all;
  for (std::uint32_t i = 0; i < limits::handles_per_process; ++i) all.push_back(t.add(port));
  CHECK(code_of(t.table.install(Reference(port, 0, 0))) == Code::quota);
  CHECK(port->reference_count() == limits::handles_per_process);
  REQUIRE(t.table.close(all[17]));
  CHECK(t.table.install(Reference(port, 0, 0)));
}

TEST_CASE("One tenant can fill only its share of a table") {
  Table t;
  const auto port = t.world.port("p");
  std::vector<Handle> sent;
  for (std::uint32_t i = 0; i < limits::handles_from_one_tenant; ++i)
    sent.push_back(t.add(port, 0, 7));
  CHECK(code_of(t.table.can_install(1, 7)) == Code::quota);
  CHECK(t.table.can_install(1, 8));
  CHECK(t.table.can_install(1, 0));
  REQUIRE(t.table.close(sent.front()));
  CHECK(t.table.can_install(1, 7));
}

TEST_CASE("Raised signals coalesce until they are reported, and reporting clears them") {
  Table t;
  const auto port = t.world.port("p");
  const Handle handle = t.add(port);
  CHECK(t.table.next_signal().handle == 0);
  port->raise(signal::connect_pending);
  port->raise(signal::connect_pending);
  port->raise(signal::closed);
  CHECK(t.wakes == 3);
  const auto raised = t.table.next_signal();
  CHECK(raised.handle == handle);
  CHECK(raised.type == static_cast<std::uint32_t>(ObjectType::port));
  CHECK(raised.signals == (signal::connect_pending | signal::closed));
  CHECK(t.table.next_signal().handle == 0);
}

TEST_CASE("A signal reaches only handles with the right to receive it") {
  Table t;
  const auto port = t.world.port("p");
  t.add(port, rights::connect);
  const Handle accepting = t.add(port, rights::accept);
  port->raise(signal::connect_pending);
  CHECK(t.table.next_signal().handle == accepting);
  CHECK(t.table.next_signal().handle == 0);
  const auto job = t.world.job("j");
  t.add(job, rights::info);
  const Handle waiting = t.add(job, rights::wait);
  job->raise(signal::empty);
  CHECK(t.table.next_signal().handle == waiting);
  CHECK(t.table.next_signal().handle == 0);
}

TEST_CASE("A closed handle takes its raised signals with it") {
  Table t;
  const auto port = t.world.port("p");
  const Handle handle = t.add(port);
  port->raise(signal::connect_pending);
  REQUIRE(t.table.close(handle));
  t.add(t.world.port("q"));
  CHECK(t.table.next_signal().handle == 0);
}

TEST_CASE("Signals are reported oldest first") {
  Table t;
  const auto first = t.world.port("a");
  const auto second = t.world.port("b");
  const Handle a = t.add(first);
  const Handle b = t.add(second);
  second->raise(signal::connect_pending);
  first->raise(signal::connect_pending);
  CHECK(t.table.next_signal().handle == b);
  CHECK(t.table.next_signal().handle == a);
}

TEST_CASE("Closing from the middle of an object's holders leaves the others reachable") {
  Table t;
  const auto port = t.world.port("p");
  const Handle a = t.add(port);
  const Handle b = t.add(port);
  const Handle c = t.add(port);
  REQUIRE(t.table.close(b));
  port->raise(signal::connect_pending);
  std::set<Handle> raised{t.table.next_signal().handle, t.table.next_signal().handle};
  CHECK(raised == std::set<Handle>{a, c});
  REQUIRE(t.table.close(c));
  REQUIRE(t.table.close(a));
  CHECK(port->reference_count() == 0);
  port->raise(signal::connect_pending);
  CHECK(t.table.next_signal().handle == 0);
}
