// Tasks and jobs through the library.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "abi/include/aios/codelet.h"
#include "abi/include/aios/job.h"
#include "abi/proto/mapreduce.hpp"
#include "abi/runtime/fd.hpp"
#include "tests/system/abi/fixture.hpp"

using namespace aios;
using namespace aios::test;
namespace fs = std::filesystem;

namespace {

const std::string good_module = TEST_MODULES "/good.so";

Owned<aios_tenant> open_tenant(aios_instance* instance) {
  aios_tenant* tenant = nullptr;
  ok(aios_tenant_open(instance, long_ns, &tenant));
  return Owned<aios_tenant>(tenant);
}

std::uint32_t codelet(aios_tenant* tenant, const char* function) {
  std::uint32_t id = 0;
  ok(aios_codelet_register_file(tenant, good_module.c_str(), function, long_ns, &id));
  return id;
}

aios_task_record task_of(std::uint64_t tag, std::uint32_t codelet) {
  aios_task_record task;
  ok(aios_task_init(&task, tag, codelet));
  return task;
}

/// The next `count` completions, in order of their tags.
std::vector<aios_completion> finished(aios_tenant* tenant, std::size_t count) {
  std::vector<aios_completion> all;
  while (all.size() < count) {
    aios_completion some[7];
    std::size_t got = 0;
    ok(aios_tenant_completions(tenant, some, 7, long_ns, &got));
    all.insert(all.end(), some, some + got);
  }
  std::ranges::sort(all, {}, &aios_completion::tag);
  return all;
}

}  // namespace

TEST_CASE("Tasks run over a region's memory, in the order of their dependencies") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  const std::uint32_t increment = codelet(tenant.get(), "increment");
  const auto region = create_region(instance.get(), 8192);
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  ok(aios_buffer_register(tenant.get(), region.get(), 0, 4096, AIOS_GRANT_WRITE, long_ns, &low));
  ok(aios_buffer_register(tenant.get(), region.get(), 4096, 4096, AIOS_GRANT_WRITE, long_ns,
                          &high));
  std::vector<aios_task_record> tasks;
  for (std::uint64_t tag = 1; tag <= 40; ++tag) {
    tasks.push_back(task_of(tag, increment));
    ok(aios_task_add_buffer(&tasks.back(), tag % 2 == 1 ? low : high, AIOS_MODE_READ));
    ok(aios_task_add_buffer(&tasks.back(), tag % 2 == 1 ? high : low, AIOS_MODE_WRITE));
    if (tag > 1) ok(aios_task_add_dependency(&tasks.back(), tag - 1));
  }
  ok(aios_tasks_submit(tenant.get(), tasks.data(), tasks.size(), long_ns));
  for (const aios_completion& done : finished(tenant.get(), 40)) REQUIRE(done.status == AIOS_OK);
  const auto* bytes = static_cast<const unsigned char*>(aios_region_data(region.get()));
  CHECK((bytes[0] == 40 && bytes[4095] == 40 && bytes[4096] == 39));
  ok(aios_buffer_release(tenant.get(), low, long_ns));
  CHECK(aios_buffer_release(tenant.get(), low, long_ns) != AIOS_OK);
}

TEST_CASE("A module from memory runs, its grid is counted, and results come back") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  std::ifstream file(good_module, std::ios::binary);
  const std::string module(std::istreambuf_iterator<char>(file), {});
  std::uint32_t count = 0;
  ok(aios_codelet_register(tenant.get(), module.data(), module.size(), "count", long_ns, &count));
  aios_task_record task = task_of(7, count);
  task.grid[0] = 5;
  task.grid[1] = 2;
  ok(aios_tasks_submit(tenant.get(), &task, 1, long_ns));
  aios_wait_item item{};
  item.kind = AIOS_WAIT_TENANT;
  item.what.tenant = tenant.get();
  ok(aios_wait(&item, 1, long_ns));
  const auto done = finished(tenant.get(), 1);
  CHECK((done[0].tag == 7 && done[0].result[0] == 10 && done[0].result[1] == 45));
  CHECK(done[0].end_ns >= done[0].start_ns);
}

TEST_CASE("A task reads a part of a lent file, whose descriptor is closed already") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  std::uint32_t buffer = 0;
  {
    const Fd file(::open(good_module.c_str(), O_RDONLY | O_CLOEXEC));
    const aios_file_range range = {file.get(), 0, 1, 3};
    ok(aios_files_register(tenant.get(), &range, 1, long_ns, &buffer));
  }
  aios_task_record task = task_of(1, codelet(tenant.get(), "read_file"));
  ok(aios_task_add_buffer(&task, buffer, AIOS_MODE_READ));
  ok(aios_tasks_submit(tenant.get(), &task, 1, long_ns));
  const auto done = finished(tenant.get(), 1);
  REQUIRE(done[0].status == AIOS_OK);
  CHECK(std::memcmp(done[0].result, "ELF", 3) == 0);
  ok(aios_buffer_release(tenant.get(), buffer, long_ns));
}

TEST_CASE("What could be written, is no file or not within it cannot be lent") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  char path[] = "/tmp/aios-lent-XXXXXX";
  const Fd writable(::mkstemp(path));
  REQUIRE(::write(writable.get(), "0123456789", 10) == 10);
  const Fd file(::open(path, O_RDONLY | O_CLOEXEC));
  const Fd named(::open(path, O_PATH | O_CLOEXEC));
  const Fd folder(::open("/tmp", O_RDONLY | O_CLOEXEC));
  ::unlink(path);
  std::uint32_t buffer = 0;
  const auto lend = [&](int fd, std::uint64_t offset, std::uint64_t length) {
    const aios_file_range range = {fd, 0, offset, length};
    return aios_files_register(tenant.get(), &range, 1, long_ns, &buffer);
  };
  for (const Fd* refused : {&writable, &named, &folder})
    CHECK(lend(refused->get(), 0, 1) == AIOS_INVALID_ARGUMENT);
  CHECK(lend(-1, 0, 1) != AIOS_OK);
  CHECK(lend(file.get(), 5, 6) == AIOS_INVALID_ARGUMENT);
  CHECK(lend(file.get(), 11, 0) == AIOS_INVALID_ARGUMENT);
  CHECK(lend(file.get(), 1, ~0ull) == AIOS_INVALID_ARGUMENT);
  CHECK(lend(file.get(), 5, 5) == AIOS_OK);
  const std::vector<aios_file_range> many(AIOS_MAX_FILE_RANGES + 1, {file.get(), 0, 0, 1});
  CHECK(aios_files_register(tenant.get(), many.data(), many.size(), long_ns, &buffer) ==
        AIOS_INVALID_ARGUMENT);
  CHECK(aios_files_register(tenant.get(), many.data(), 0, long_ns, &buffer) ==
        AIOS_INVALID_ARGUMENT);
  CHECK(aios_files_register(tenant.get(), many.data(), AIOS_MAX_FILE_RANGES, long_ns, &buffer) ==
        AIOS_OK);
}

TEST_CASE("A task that fails says why, and one that has not finished is cancelled or not found") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  aios_task_record task = task_of(1, codelet(tenant.get(), "fail"));
  const std::uint32_t words[2] = {0, AIOS_NO_SPACE};
  ok(aios_task_set_arguments(&task, words, sizeof words));
  ok(aios_tasks_submit(tenant.get(), &task, 1, long_ns));
  CHECK(finished(tenant.get(), 1)[0].status == AIOS_NO_SPACE);
  char why[64];
  ok(aios_task_failure(tenant.get(), 1, why, sizeof why, long_ns));
  CHECK(std::string(why).find("block 0 gave up") != std::string::npos);
  ok(aios_task_failure(tenant.get(), 1, why, 4, long_ns));
  CHECK(std::strlen(why) == 3);
  CHECK(aios_task_failure(tenant.get(), 99, why, sizeof why, long_ns) == AIOS_NOT_FOUND);
  CHECK(aios_task_cancel(tenant.get(), 99, long_ns) == AIOS_NOT_FOUND);
}

TEST_CASE("What is no module, no task or no buffer is refused") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  std::uint32_t id = 0;
  CHECK(aios_codelet_register_file(tenant.get(), "/nowhere.so", "f", long_ns, &id) ==
        AIOS_NOT_FOUND);
  CHECK(aios_codelet_register(tenant.get(), "x", 0, "f", long_ns, &id) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_codelet_register(tenant.get(), "x", 1, std::string(64, 'f').c_str(), long_ns, &id) ==
        AIOS_INVALID_ARGUMENT);
  const auto region = create_region(instance.get(), 4096);
  CHECK(aios_buffer_register(tenant.get(), region.get(), 4000, 200, AIOS_GRANT_READ, long_ns,
                             &id) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_buffer_register(tenant.get(), region.get(), 0, 4096, 0, long_ns, &id) ==
        AIOS_INVALID_ARGUMENT);
  aios_task_record task = task_of(1, 4711);
  CHECK(aios_tasks_submit(tenant.get(), &task, 0, long_ns) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_tasks_submit(tenant.get(), &task, 1, long_ns) != AIOS_OK);
  for (int i = 0; i < AIOS_MAX_TASK_BUFFERS; ++i) ok(aios_task_add_buffer(&task, 1, 1));
  CHECK(aios_task_add_buffer(&task, 1, 1) == AIOS_QUOTA);
  CHECK(aios_task_add_buffer(&task, 1, 9) == AIOS_INVALID_ARGUMENT);
  for (int i = 0; i < AIOS_MAX_TASK_DEPENDENCIES; ++i) ok(aios_task_add_dependency(&task, 1));
  CHECK(aios_task_add_dependency(&task, 1) == AIOS_QUOTA);
  const char much[65] = {};
  CHECK(aios_task_set_arguments(&task, much, sizeof much) == AIOS_TOO_LARGE);
}

TEST_CASE("Waiting for tasks that were not submitted times out") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  aios_completion one;
  std::size_t count = 0;
  CHECK(aios_tenant_completions(tenant.get(), &one, 1, 5 * ns_per_ms, &count) == AIOS_TIMED_OUT);
}

TEST_CASE("Threads submit to one tenant at once while another takes the completions") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  const std::uint32_t count = codelet(tenant.get(), "count");
  std::atomic<int> refused = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 6; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 20; ++i) {
        aios_task_record task;
        (void)aios_task_init(&task, 1 + t * 100 + i, count);
        if (aios_tasks_submit(tenant.get(), &task, 1, long_ns) != AIOS_OK) ++refused;
      }
    });
  const auto done = finished(tenant.get(), 120);
  for (std::thread& thread : threads) thread.join();
  CHECK(refused == 0);
  CHECK(std::ranges::all_of(done, [](const auto& one) { return one.status == AIOS_OK; }));
}

TEST_CASE("A tenant survives the scheduler, with what is registered and what is unfinished") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  const std::uint32_t count = codelet(tenant.get(), "count");
  const auto before = the_instance().server("scheduler");
  REQUIRE(before.has_value());
  aios_wait_item item{};
  item.kind = AIOS_WAIT_TENANT;
  item.what.tenant = tenant.get();
  CHECK(aios_wait(&item, 1, 0) == AIOS_TIMED_OUT);
  aios_task_record tasks[] = {task_of(1, count), task_of(2, count), task_of(3, count)};
  ok(aios_task_add_dependency(&tasks[1], 1));
  ok(aios_tasks_submit(tenant.get(), tasks, 2, long_ns));
  ::kill(static_cast<pid_t>(before->pid), SIGKILL);
  ok(aios_wait(&item, 1, long_ns));
  ok(aios_task_add_dependency(&tasks[2], 2));
  ok(aios_tasks_submit(tenant.get(), &tasks[2], 1, long_ns));
  const auto done = finished(tenant.get(), 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(done[i].tag == i + 1);
    CHECK(done[i].status == AIOS_OK);
    CHECK(done[i].result[0] == 1);
  }
  std::size_t got = 0;
  aios_completion one;
  CHECK(aios_tenant_completions(tenant.get(), &one, 1, 0, &got) == AIOS_TIMED_OUT);
  REQUIRE(the_instance().wait_restarted("scheduler", before->epoch).has_value());
}

TEST_CASE("A descriptor that is polled drives a tenant over its scheduler's death") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  aios_task_record task = task_of(1, codelet(tenant.get(), "count"));
  const auto before = the_instance().server("scheduler");
  REQUIRE(before.has_value());
  ::kill(static_cast<pid_t>(before->pid), SIGKILL);
  ok(aios_tasks_submit(tenant.get(), &task, 1, long_ns));
  aios_wait_item item{};
  item.kind = AIOS_WAIT_TENANT;
  item.what.tenant = tenant.get();
  int fd = -1;
  ok(aios_poll_fd(instance.get(), &fd));
  while (aios_wait(&item, 1, 0) == AIOS_TIMED_OUT) {
    int ready = 0;
    ok(aios_arm(instance.get(), &ready));
    pollfd polled{fd, POLLIN, 0};
    if (ready == 0) ::poll(&polled, 1, -1);
    ok(aios_dispatch(instance.get()));
  }
  CHECK(finished(tenant.get(), 1)[0].status == AIOS_OK);
  REQUIRE(the_instance().wait_restarted("scheduler", before->epoch).has_value());
}

TEST_CASE("A MapReduce job runs, shows its progress, and can be cancelled") {
  const auto instance = attach();
  const fs::path folder = the_instance().state() / "job";
  fs::create_directory(folder);
  {
    std::ofstream text(folder / "text");
    for (int i = 0; i < 20000; ++i) text << "one two two three three three\n";
  }
  const std::string input = folder / "text";
  const std::string output = folder / "output";
  const char* inputs[] = {input.c_str()};
  const std::string module = JOB_MODULES "/wordcount.so";
  aios_mapreduce_options options{};
  options.module_path = module.c_str();
  options.inputs = inputs;
  options.input_count = 1;
  options.output = output.c_str();
  options.memory_bytes = 64u << 20;
  const auto count_calls = [](void* context, const aios_mapreduce_progress* progress) {
    *static_cast<std::uint64_t*>(context) = progress->input_bytes;
    return 0;
  };
  std::uint64_t seen = 0;
  aios_mapreduce_result result{};
  ok(aios_mapreduce_run(instance.get(), &options, count_calls, &seen, &result));
  CHECK(seen == 20000 * 30);
  CHECK((result.progress.distinct_keys == 3 && result.progress.phase == AIOS_PHASE_DONE));
  std::ifstream part(output + "/part-00000");
  CHECK(std::string(std::istreambuf_iterator<char>(part), {}) ==
        "one\t20000\nthree\t60000\ntwo\t40000\n");
  CHECK(aios_mapreduce_run(instance.get(), &options, nullptr, nullptr, nullptr) ==
        AIOS_ALREADY_EXISTS);
  const std::string second = folder / "second";
  options.output = second.c_str();
  CHECK(aios_mapreduce_run(
            instance.get(), &options, [](void*, const aios_mapreduce_progress*) { return 1; },
            nullptr, nullptr) == AIOS_CANCELLED);
  CHECK(!fs::exists(second));
  options.max_bad_records = aios::proto::mapreduce::max_bad_records + 1;
  CHECK(aios_mapreduce_run(instance.get(), &options, nullptr, nullptr, nullptr) ==
        AIOS_INVALID_ARGUMENT);
  options.max_bad_records = 3;
  ok(aios_mapreduce_run(instance.get(), &options, nullptr, nullptr, &result));
  CHECK(result.progress.skipped_records == 0);
  fs::remove_all(second);
  options.module_path = "/nowhere.so";
  CHECK(aios_mapreduce_run(instance.get(), &options, nullptr, nullptr, nullptr) == AIOS_NOT_FOUND);
  options.input_count = 0;
  CHECK(aios_mapreduce_run(instance.get(), &options, nullptr, nullptr, nullptr) ==
        AIOS_INVALID_ARGUMENT);
  fs::remove_all(folder);
}

namespace {

struct FreeGraph {
  void operator()(aios_graph* graph) const { aios_graph_free(graph); }
};
using Graph = std::unique_ptr<aios_graph, FreeGraph>;

Graph make_graph(aios_tenant* tenant) {
  aios_graph* graph = nullptr;
  ok(aios_graph_create(tenant, &graph));
  return Graph(graph);
}

}  // namespace

TEST_CASE("A graph runs as if its tasks ran one after the other") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  const std::uint32_t increment = codelet(tenant.get(), "increment");
  const auto region = create_region(instance.get(), 8192);
  std::uint32_t buffers[2] = {};
  for (std::uint32_t i = 0; i < 2; ++i)
    ok(aios_buffer_register(tenant.get(), region.get(), i * 4096, 4096, AIOS_GRANT_WRITE, long_ns,
                            &buffers[i]));
  const Graph graph = make_graph(tenant.get());
  constexpr std::uint32_t steps = 100;
  // To and fro: each step reads what the last one wrote.
  for (std::uint32_t i = 0; i < steps; ++i) {
    aios_task_record task = task_of(0, increment);
    ok(aios_task_add_buffer(&task, buffers[i % 2], AIOS_MODE_READ));
    ok(aios_task_add_buffer(&task, buffers[1 - i % 2], AIOS_MODE_WRITE));
    std::uint32_t number = ~0u;
    ok(aios_graph_add(graph.get(), &task, &number));
    CHECK(number == i);
  }
  aios_completion completion{};
  CHECK(aios_graph_completion(graph.get(), 0, &completion) == AIOS_NOT_FOUND);
  CHECK(aios_graph_wait(graph.get(), long_ns, nullptr) == AIOS_INVALID_ARGUMENT);
  ok(aios_graph_submit(graph.get(), long_ns));
  CHECK(aios_graph_submit(graph.get(), long_ns) == AIOS_INVALID_ARGUMENT);
  std::size_t failed = 99;
  ok(aios_graph_wait(graph.get(), long_ns, &failed));
  CHECK(failed == 0);
  CHECK(static_cast<const unsigned char*>(aios_region_data(region.get()))[0] == steps);
  ok(aios_graph_completion(graph.get(), steps - 1, &completion));
  CHECK(completion.status == AIOS_OK);
  CHECK(aios_graph_completion(graph.get(), steps, &completion) == AIOS_NOT_FOUND);
}

namespace {

/// Long enough for every machine.
constexpr std::uint64_t far_ns = 600'000'000'000;

std::uint64_t clock_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

/// A chain of `count` tasks over one buffer.
Graph make_chain(aios_tenant* tenant, std::uint32_t codelet, std::uint32_t in, std::uint32_t out,
                 std::size_t count) {
  Graph graph = make_graph(tenant);
  for (std::size_t i = 0; i < count; ++i) {
    aios_task_record task = task_of(0, codelet);
    ok(aios_task_add_buffer(&task, in, AIOS_MODE_READ));
    ok(aios_task_add_buffer(&task, out, AIOS_MODE_WRITE));
    std::uint32_t number = 0;
    ok(aios_graph_add(graph.get(), &task, &number));
  }
  return graph;
}

}  // namespace

TEST_CASE("A graph with a deadline is accepted, or refused at once with what is predicted of it") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  const std::uint32_t increment = codelet(tenant.get(), "increment");
  constexpr std::uint64_t bytes = 1 << 20;
  const auto region = create_region(instance.get(), 2 * bytes);
  std::uint32_t in = 0, out = 0;
  ok(aios_buffer_register(tenant.get(), region.get(), 0, bytes, AIOS_GRANT_WRITE, long_ns, &in));
  ok(aios_buffer_register(tenant.get(), region.get(), bytes, bytes, AIOS_GRANT_WRITE, long_ns,
                          &out));
  const Graph first = make_chain(tenant.get(), increment, in, out, 16);
  aios_prediction predicted{};
  CHECK(aios_graph_predicted(first.get(), &predicted) == AIOS_NOT_FOUND);
  CHECK(aios_graph_set_deadline(first.get(), clock_ns() - 5'000'000) == AIOS_OK);
  CHECK(aios_graph_submit(first.get(), long_ns) == AIOS_INVALID_ARGUMENT);
  CHECK(std::string(aios_last_error()).find("passed") != std::string::npos);
  // With another deadline it may be submitted again.
  ok(aios_graph_set_deadline(first.get(), clock_ns() + far_ns));
  ok(aios_graph_submit(first.get(), long_ns));
  ok(aios_graph_predicted(first.get(), &predicted));
  CHECK((predicted.tasks == 16 && predicted.unknown <= 16));
  std::size_t failed = 99;
  ok(aios_graph_wait(first.get(), long_ns, &failed));
  REQUIRE(failed == 0);
  // What a task takes that nobody else was in the way of.
  std::uint64_t task_ns = UINT64_MAX;
  for (std::uint32_t number = 0; number < 16; ++number) {
    aios_completion done{};
    ok(aios_graph_completion(first.get(), number, &done));
    task_ns = std::min(task_ns, std::max<std::uint64_t>(done.end_ns - done.start_ns, 1));
  }

  // So many that they take a multiple of the time that there is for them.
  constexpr std::uint64_t allowed_ns = 4'000'000'000;
  const std::size_t count = std::min<std::size_t>(8 * allowed_ns / task_ns + 1, 32'768);
  const Graph large = make_chain(tenant.get(), increment, in, out, count);
  ok(aios_graph_set_deadline(large.get(), clock_ns() + allowed_ns / 4));
  CHECK(aios_graph_submit(large.get(), long_ns) == AIOS_TOO_LATE);
  CHECK(std::string(aios_last_error()).find("predicted to finish in") != std::string::npos);
  ok(aios_graph_predicted(large.get(), &predicted));
  CHECK((predicted.unknown == 0 && predicted.finish_ns > clock_ns() + allowed_ns / 4));
  CHECK(predicted.finish_p95_ns > predicted.finish_ns);
  CHECK(aios_graph_wait(large.get(), long_ns, nullptr) == AIOS_INVALID_ARGUMENT);

  const Graph small = make_chain(tenant.get(), increment, in, out, 4);
  ok(aios_graph_set_deadline(small.get(), clock_ns() + far_ns));
  ok(aios_graph_submit(small.get(), long_ns));
  ok(aios_graph_predicted(small.get(), &predicted));
  CHECK((predicted.promised == 1 && predicted.unknown == 0));
  ok(aios_graph_wait(small.get(), long_ns, &failed));
  CHECK(failed == 0);
  // What was refused took nothing: the tenant is as good as new.
  aios_task_record task = task_of(7, codelet(tenant.get(), "count"));
  ok(aios_tasks_submit(tenant.get(), &task, 1, long_ns));
  CHECK(finished(tenant.get(), 1)[0].tag == 7);
}

TEST_CASE("Far more tasks than may be pending are submitted at once, in chains") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  const std::uint32_t count = codelet(tenant.get(), "count");
  const Graph graph = make_graph(tenant.get());
  constexpr std::uint32_t tasks = 200'000;
  constexpr std::uint32_t chains = 7;
  const aios_task_record task = task_of(0, count);
  std::uint32_t number = 0;
  for (std::uint32_t i = 0; i < tasks; ++i) {
    ok(aios_graph_add(graph.get(), &task, &number));
    if (i >= chains) ok(aios_graph_add_edge(graph.get(), i - chains, i));
    // Also one that has long ended by then.
    if (i > 0) ok(aios_graph_add_edge(graph.get(), 0, i));
  }
  ok(aios_graph_submit(graph.get(), AIOS_FOREVER));
  std::size_t failed = 99;
  ok(aios_graph_wait(graph.get(), AIOS_FOREVER, &failed));
  CHECK(failed == 0);
}

namespace {

std::uint32_t graph_work(aios_tenant* tenant, const char* function) {
  const std::string module = std::string(TEST_MODULES) + "/graph_work.so";
  std::uint32_t id = 0;
  ok(aios_codelet_register_file(tenant, module.c_str(), function, long_ns, &id));
  return id;
}

}  // namespace

TEST_CASE("A gang of a graph runs at the same time") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  aios_device device{};
  ok(aios_tenant_device(tenant.get(), 0, long_ns, &device));
  if (device.threads < 2) {
    MESSAGE("one thread: no gang fits");
    return;
  }
  const std::uint32_t meet = graph_work(tenant.get(), "meet");
  const auto region = create_region(instance.get(), 4096);
  const Graph graph = make_graph(tenant.get());
  std::uint32_t numbers[2];
  for (std::uint32_t& number : numbers) {
    // The same bytes as two buffers: a graph would have one wait for the other.
    std::uint32_t buffer = 0;
    ok(aios_buffer_register(tenant.get(), region.get(), 0, 4096, AIOS_GRANT_WRITE, long_ns,
                            &buffer));
    aios_task_record task = task_of(0, meet);
    task.device = 1;
    ok(aios_task_add_buffer(&task, buffer, AIOS_MODE_READ_WRITE));
    const std::uint32_t members = 2;
    ok(aios_task_set_arguments(&task, &members, sizeof members));
    ok(aios_graph_add(graph.get(), &task, &number));
  }
  CHECK(aios_graph_gang(graph.get(), numbers, 1) == AIOS_INVALID_ARGUMENT);
  ok(aios_graph_gang(graph.get(), numbers, 2));
  CHECK(aios_graph_gang(graph.get(), numbers, 2) == AIOS_INVALID_ARGUMENT);
  ok(aios_graph_submit(graph.get(), long_ns));
  std::size_t failed = 99;
  ok(aios_graph_wait(graph.get(), long_ns, &failed));
  CHECK(failed == 0);
  aios_task_record record = task_of(1, meet);
  CHECK(aios_task_set_gang(&record, 1, 1) == AIOS_INVALID_ARGUMENT);
  ok(aios_task_set_gang(&record, 1, AIOS_MAX_GANG));
}

TEST_CASE("What is pending of a graph can be cancelled, and of a tenant") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  std::uint32_t loop = 0;
  ok(aios_codelet_register_file(tenant.get(), TEST_MODULES "/faulty.so", "loop", long_ns, &loop));
  const Graph graph = make_graph(tenant.get());
  aios_task_record task = task_of(0, loop);
  task.limit_ns = 500 * ns_per_ms;
  std::uint32_t number = 0;
  for (int i = 0; i < 10; ++i) {
    ok(aios_graph_add(graph.get(), &task, &number));
    if (i > 0) ok(aios_graph_add_edge(graph.get(), 0, number));
  }
  ok(aios_graph_submit(graph.get(), long_ns));
  ok(aios_graph_cancel(graph.get(), long_ns));
  std::size_t failed = 0;
  ok(aios_graph_wait(graph.get(), long_ns, &failed));
  CHECK(failed == 10);
  aios_completion completion{};
  ok(aios_graph_completion(graph.get(), 9, &completion));
  CHECK(completion.status == AIOS_CANCELLED);

  std::size_t cancelled = 0;
  std::size_t running = 0;
  task.tag = 1;
  ok(aios_tasks_submit(tenant.get(), &task, 1, long_ns));
  aios_task_record after = task_of(2, loop);
  ok(aios_task_add_dependency(&after, 1));
  ok(aios_tasks_submit(tenant.get(), &after, 1, long_ns));
  ok(aios_tasks_cancel(tenant.get(), 0, UINT64_MAX, long_ns, &cancelled, &running));
  CHECK(cancelled + running == 2);
  CHECK(finished(tenant.get(), 2)[1].status == AIOS_CANCELLED);
}

TEST_CASE("Graphs that make no sense are refused with the reason") {
  const auto instance = attach();
  const auto tenant = open_tenant(instance.get());
  const std::uint32_t count = codelet(tenant.get(), "count");
  const Graph circle = make_graph(tenant.get());
  aios_task_record task = task_of(0, count);
  std::uint32_t number = 0;
  CHECK(aios_graph_submit(circle.get(), long_ns) == AIOS_INVALID_ARGUMENT);
  ok(aios_graph_add(circle.get(), &task, &number));
  ok(aios_graph_add(circle.get(), &task, &number));
  ok(aios_graph_add_edge(circle.get(), 0, 1));
  ok(aios_graph_add_edge(circle.get(), 1, 0));
  CHECK(aios_graph_submit(circle.get(), long_ns) == AIOS_INVALID_ARGUMENT);
  CHECK(std::string(aios_last_error()).find("circle") != std::string::npos);
  CHECK(aios_graph_add_edge(circle.get(), 0, 2) == AIOS_INVALID_ARGUMENT);

  const Graph unknown = make_graph(tenant.get());
  task.codelet = 77;
  ok(aios_graph_add(unknown.get(), &task, &number));
  CHECK(aios_graph_submit(unknown.get(), long_ns) == AIOS_INVALID_ARGUMENT);
  CHECK(std::string(aios_last_error()).find("codelet") != std::string::npos);
}
