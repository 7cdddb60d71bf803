// libaios for C++20: the C interface (aios.h and its companions) with owners that clean up.
//
// Errors are exceptions: every function that can fail throws `aios::Error`, which has the code and
// the explanation; where not being there in time is nothing unusual there is a try_ form. What each
// call does, its errors, blocking and threads are written in the C headers, at the function of the
// same name. Objects can be moved, not copied; calls end before their service, everything before
// its Instance.
#pragma once

#include <aios/aios.h>
#include <aios/job.h>
#include <aios/server.h>
#include <aios/storage.h>
#include <aios/tasks.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace aios {
// Its symbols cannot meet those of another version in one program.
inline namespace v0 {

inline constexpr std::uint64_t forever = AIOS_FOREVER;

class Error : public std::runtime_error {
 public:
  Error(aios_code code, const std::string& what)
      : std::runtime_error(std::string(aios_code_name(code)) + ": " + what), code_(code) {}
  aios_code code() const noexcept { return code_; }

 private:
  aios_code code_;
};

/// What submitting many tasks threw.
class SubmitError : public Error {
 public:
  SubmitError(aios_code code, const std::string& what, std::size_t taken)
      : Error(code, what), taken_(taken) {}
  /// So many of them, the first ones, are submitted all the same.
  std::size_t taken() const noexcept { return taken_; }

 private:
  std::size_t taken_;
};

/// Throws what this thread's last call answered, unless it was OK.
inline void check(aios_code code) {
  if (code != AIOS_OK) throw Error(code, aios_last_error());
}

enum class Access : std::uint32_t { read = AIOS_GRANT_READ, write = AIOS_GRANT_WRITE };

namespace detail {
template <class T, void (*free_function)(T*)>
struct Free {
  void operator()(T* object) const noexcept { free_function(object); }
};
template <class T, void (*free_function)(T*)>
using Owner = std::unique_ptr<T, Free<T, free_function>>;

/// What may travel in a message: its bytes are its value.
template <class T>
concept Message = std::is_trivially_copyable_v<T> && std::has_unique_object_representations_v<T>;
}  // namespace detail

/// Shared memory, mapped here.
class Region {
 public:
  explicit Region(aios_region* owned) noexcept : region_(owned) {}
  aios_region* get() const noexcept { return region_.get(); }

  std::size_t size() const noexcept { return aios_region_size(get()); }
  bool writable() const noexcept { return aios_region_is_writable(get()) != 0; }
  /// Writing through it faults unless writable().
  std::span<std::byte> bytes() const noexcept {
    return {static_cast<std::byte*>(aios_region_data(get())), size()};
  }
  /// As many whole T as fit.
  template <class T>
  std::span<T> as() const noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    return {static_cast<T*>(aios_region_data(get())), size() / sizeof(T)};
  }

  void freeze() { check(aios_region_freeze(get())); }
  bool frozen() const {
    int frozen = 0;
    check(aios_region_is_frozen(get(), &frozen));
    return frozen != 0;
  }
  void keep(const std::string& label, Access access) const {
    check(aios_region_keep(get(), label.c_str(), static_cast<std::uint32_t>(access)));
  }

 private:
  detail::Owner<aios_region, aios_region_close> region_;
};

/// A call under way.
class Call {
 public:
  explicit Call(aios_call* owned) noexcept : call_(owned) {}
  aios_call* get() const noexcept { return call_.get(); }

  /// Whether result() would not wait.
  bool done() const {
    int done = 0;
    check(aios_call_is_done(get(), &done));
    return done != 0;
  }
  /// Waits for the end and gives the reply.
  template <detail::Message Reply>
  Reply result(std::uint64_t timeout_ns = forever) {
    aios_wait_item item{};
    item.kind = AIOS_WAIT_CALL;
    item.what.call = get();
    check(aios_wait(&item, 1, timeout_ns));
    Reply reply;
    check(aios_call_result(get(), &reply, sizeof reply));
    return reply;
  }

 private:
  detail::Owner<aios_call, aios_call_free> call_;
};

class Service {
 public:
  explicit Service(aios_service* owned) noexcept : service_(owned) {}
  aios_service* get() const noexcept { return service_.get(); }

  template <detail::Message Reply, detail::Message Request>
  Reply call(std::uint16_t opcode, const Request& request, std::uint64_t timeout_ns) {
    Reply reply;
    check(aios_call_method(get(), opcode, &request, sizeof request, &reply, sizeof reply,
                           timeout_ns));
    return reply;
  }
  template <detail::Message Request>
  Call start(std::uint16_t opcode, const Request& request, std::uint64_t timeout_ns) {
    aios_call* call = nullptr;
    check(aios_call_start(get(), opcode, &request, sizeof request, timeout_ns, &call));
    return Call(call);
  }
  /// The region's number at the server.
  std::uint64_t grant(const Region& region, Access access, std::uint64_t timeout_ns) {
    std::uint64_t handle = 0;
    check(aios_grant(get(), region.get(), static_cast<std::uint32_t>(access), timeout_ns, &handle));
    return handle;
  }
  Region receive(std::uint64_t handle, Access access) {
    aios_region* region = nullptr;
    check(aios_region_receive(get(), handle, static_cast<std::uint32_t>(access), &region));
    return Region(region);
  }

 private:
  detail::Owner<aios_service, aios_service_close> service_;
};

/// A call that somebody makes of this program. One that is destroyed unanswered fails, `cancelled`.
class Request {
 public:
  explicit Request(aios_request* owned) noexcept : request_(owned) {}
  Request(Request&& other) noexcept : request_(std::exchange(other.request_, nullptr)) {}
  Request& operator=(Request&& other) noexcept {
    std::swap(request_, other.request_);
    return *this;
  }
  ~Request() {
    if (request_ != nullptr)
      (void)aios_request_fail(request_, AIOS_CANCELLED, "the server did not answer");
  }
  aios_request* get() const noexcept { return request_; }

  std::uint16_t opcode() const noexcept { return aios_request_opcode(request_); }
  std::span<const std::byte> bytes() const noexcept {
    std::size_t count = 0;
    const void* data = aios_request_data(request_, &count);
    return {static_cast<const std::byte*>(data), count};
  }
  /// A copy; invalid_argument when the request is of another size.
  template <detail::Message T>
  T as() const {
    T out;
    const std::span<const std::byte> all = bytes();
    if (all.size() != sizeof out) throw Error(AIOS_INVALID_ARGUMENT, "request of another size");
    std::copy(all.begin(), all.end(), reinterpret_cast<std::byte*>(&out));
    return out;
  }
  aios_peer peer() const {
    aios_peer peer{};
    check(aios_request_peer(request_, &peer));
    return peer;
  }
  Region region(std::uint64_t handle, Access access) {
    aios_region* region = nullptr;
    check(aios_request_region(request_, handle, static_cast<std::uint32_t>(access), &region));
    return Region(region);
  }
  std::uint64_t grant(const Region& region, Access access) {
    std::uint64_t handle = 0;
    check(aios_request_grant(request_, region.get(), static_cast<std::uint32_t>(access), &handle));
    return handle;
  }

  template <detail::Message Reply>
  void reply(const Reply& reply) {
    check(aios_request_reply(std::exchange(request_, nullptr), &reply, sizeof reply));
  }
  void fail(aios_code code, const std::string& text) {
    check(aios_request_fail(std::exchange(request_, nullptr), code, text.c_str()));
  }

 private:
  aios_request* request_;
};

class Server {
 public:
  explicit Server(aios_server* owned) noexcept : server_(owned) {}
  aios_server* get() const noexcept { return server_.get(); }

  Request next() { return *try_next(forever); }
  /// Nothing when none came in time.
  std::optional<Request> try_next(std::uint64_t timeout_ns) {
    aios_request* request = nullptr;
    const aios_code code = aios_server_next(get(), timeout_ns, &request);
    if (code == AIOS_TIMED_OUT) return std::nullopt;
    check(code);
    return Request(request);
  }

 private:
  detail::Owner<aios_server, aios_server_close> server_;
};

class Storage {
 public:
  /// `timeout_ns` is that of every call.
  Storage(aios_storage* owned, std::uint64_t timeout_ns) noexcept
      : storage_(owned), timeout_ns_(timeout_ns) {}
  aios_storage* get() const noexcept { return storage_.get(); }

  aios_object_info put(const std::string& name, std::span<const std::byte> bytes) {
    aios_object_info info{};
    check(aios_storage_put(get(), name.c_str(), bytes.data(), bytes.size(), timeout_ns_, &info));
    return info;
  }
  aios_object_info put(const std::string& name, std::string_view text) {
    return put(name, std::as_bytes(std::span(text.data(), text.size())));
  }
  aios_object_info put(const std::string& name, const Region& region, std::uint64_t offset,
                       std::uint64_t length) {
    aios_object_info info{};
    check(aios_storage_put_region(get(), name.c_str(), region.get(), offset, length, timeout_ns_,
                                  &info));
    return info;
  }
  /// The whole object.
  std::vector<std::byte> get_bytes(const std::string& name) {
    const aios_object_info info = stat(name);
    std::vector<std::byte> bytes(info.size_bytes);
    std::size_t got = 0;
    check(aios_storage_get(get(), name.c_str(), info.version, 0, bytes.data(), bytes.size(),
                           timeout_ns_, &got, nullptr));
    bytes.resize(got);
    return bytes;
  }
  /// Fills (region_offset, at most `length`) from byte `offset` of the object; how many bytes.
  std::uint64_t get_into(const Region& region, std::uint64_t region_offset, std::uint64_t length,
                         const std::string& name, std::uint64_t offset = 0,
                         std::uint64_t version = 0) {
    std::uint64_t got = 0;
    check(aios_storage_get_region(get(), name.c_str(), version, offset, region.get(), region_offset,
                                  length, timeout_ns_, &got, nullptr));
    return got;
  }
  aios_object_info stat(const std::string& name) {
    aios_object_info info{};
    check(aios_storage_stat(get(), name.c_str(), timeout_ns_, &info));
    return info;
  }
  /// All objects with that prefix.
  std::vector<aios_object_entry> list(const std::string& prefix) {
    constexpr std::size_t page = 256;
    std::vector<aios_object_entry> all;
    std::string after;
    for (int more = 1; more != 0;) {
      const std::size_t had = all.size();
      std::size_t count = 0;
      all.resize(had + page);
      check(aios_storage_list(get(), prefix.c_str(), after.c_str(), all.data() + had, page,
                              timeout_ns_, &count, &more));
      all.resize(had + count);
      if (count == 0) break;
      after = all.back().name;
    }
    return all;
  }
  void remove(const std::string& name) {
    check(aios_storage_remove(get(), name.c_str(), timeout_ns_));
  }
  void rename(const std::string& from, const std::string& to) {
    check(aios_storage_rename(get(), from.c_str(), to.c_str(), timeout_ns_));
  }

 private:
  detail::Owner<aios_storage, aios_storage_close> storage_;
  std::uint64_t timeout_ns_;
};

/// A task to be submitted.
class Task {
 public:
  Task(std::uint64_t tag, std::uint32_t codelet) { check(aios_task_init(&record_, tag, codelet)); }
  aios_task_record& record() noexcept { return record_; }
  Task& buffer(std::uint32_t buffer, std::uint32_t mode) {
    check(aios_task_add_buffer(&record_, buffer, mode));
    return *this;
  }
  Task& after(std::uint64_t tag) {
    check(aios_task_add_dependency(&record_, tag));
    return *this;
  }
  template <class T>
  Task& arguments(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    check(aios_task_set_arguments(&record_, &value, sizeof value));
    return *this;
  }
  /// On this one of the listed devices only.
  Task& device(std::uint32_t index) noexcept {
    record_.device = index + 1;
    return *this;
  }
  /// Starts together with the others of that gang, of which there are `size` in all.
  Task& gang(std::uint32_t gang, std::uint32_t size) {
    check(aios_task_set_gang(&record_, gang, size));
    return *this;
  }
  /// In a graph with a deadline that is not accepted otherwise.
  Task& may_be_cheaper() noexcept {
    record_.flags |= AIOS_TASK_MAY_BE_CHEAPER;
    return *this;
  }
  Task& grid(std::uint32_t x, std::uint32_t y = 1, std::uint32_t z = 1) noexcept {
    record_.grid[0] = x;
    record_.grid[1] = y;
    record_.grid[2] = z;
    return *this;
  }

 private:
  aios_task_record record_{};
};
static_assert(sizeof(Task) == sizeof(aios_task_record));

class Tenant {
 public:
  /// `timeout_ns` is that of every call but `completions`.
  Tenant(aios_tenant* owned, std::uint64_t timeout_ns) noexcept
      : tenant_(owned), timeout_ns_(timeout_ns) {}
  aios_tenant* get() const noexcept { return tenant_.get(); }
  /// Those that are known by now.
  std::vector<aios_device> devices() {
    std::vector<aios_device> all;
    for (aios_device one{};; all.push_back(one)) {
      const auto index = static_cast<std::uint32_t>(all.size());
      const aios_code code = aios_tenant_device(get(), index, timeout_ns_, &one);
      if (code == AIOS_NOT_FOUND) return all;
      check(code);
    }
  }
  std::uint32_t codelet(std::span<const std::byte> module, const std::string& function) {
    std::uint32_t id = 0;
    check(aios_codelet_register(get(), module.data(), module.size(), function.c_str(), timeout_ns_,
                                &id));
    return id;
  }
  std::uint32_t codelet(const std::string& path, const std::string& function) {
    std::uint32_t id = 0;
    check(aios_codelet_register_file(get(), path.c_str(), function.c_str(), timeout_ns_, &id));
    return id;
  }
  /// `cheaper` does what `codelet` does, sooner and not as well.
  void set_cheaper(std::uint32_t codelet, std::uint32_t cheaper) {
    check(aios_codelet_set_cheaper(get(), codelet, cheaper, timeout_ns_));
  }
  std::uint32_t buffer(const Region& region, std::uint64_t offset, std::uint64_t length,
                       Access access) {
    std::uint32_t id = 0;
    check(aios_buffer_register(get(), region.get(), offset, length,
                               static_cast<std::uint32_t>(access), timeout_ns_, &id));
    return id;
  }
  std::uint32_t buffer(const Region& region, Access access) {
    return buffer(region, 0, region.size(), access);
  }
  /// Parts of open files as one buffer.
  std::uint32_t files(std::span<const aios_file_range> ranges) {
    std::uint32_t id = 0;
    check(aios_files_register(get(), ranges.data(), ranges.size(), timeout_ns_, &id));
    return id;
  }
  void release(std::uint32_t buffer) { check(aios_buffer_release(get(), buffer, timeout_ns_)); }
  void submit(std::span<const Task> tasks) {
    check(aios_tasks_submit(get(), reinterpret_cast<const aios_task_record*>(tasks.data()),
                            tasks.size(), timeout_ns_));
  }
  void submit(const Task& task) { submit(std::span(&task, 1)); }
  /// Any number, waiting while too many are pending. Throws SubmitError.
  void submit_many(std::span<const Task> tasks) {
    std::size_t taken = 0;
    const aios_code code =
        aios_tasks_submit_many(get(), reinterpret_cast<const aios_task_record*>(tasks.data()),
                               tasks.size(), timeout_ns_, &taken);
    if (code != AIOS_OK) throw SubmitError(code, aios_last_error(), taken);
  }
  /// At least one, unless none came in time.
  std::vector<aios_completion> completions(std::uint64_t timeout_ns = forever) {
    std::vector<aios_completion> some(64);
    std::size_t count = 0;
    const aios_code code = aios_tenant_completions(get(), some.data(), 64, timeout_ns, &count);
    if (code != AIOS_TIMED_OUT) check(code);
    some.resize(count);
    return some;
  }
  std::string failure(std::uint64_t tag) {
    char text[512];
    check(aios_task_failure(get(), tag, text, sizeof text, timeout_ns_));
    return text;
  }
  void cancel(std::uint64_t tag) { check(aios_task_cancel(get(), tag, timeout_ns_)); }
  /// Everything that is pending: how many those were.
  std::size_t cancel_all() {
    std::size_t cancelled = 0;
    check(aios_tasks_cancel(get(), 0, UINT64_MAX, timeout_ns_, &cancelled, nullptr));
    return cancelled;
  }

 private:
  detail::Owner<aios_tenant, aios_tenant_close> tenant_;
  std::uint64_t timeout_ns_;
};

/// A job of a chain.
struct JobStage {
  std::string module_path;
  std::vector<std::string> arguments{};
  std::string label = "job";
};

struct JobOptions {
  std::string label = "job";
  std::string module_path;
  std::vector<std::string> arguments;
  std::vector<std::string> inputs;
  std::string output;
  std::uint32_t reducers = 1;
  std::uint32_t threads = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t task_limit_ns = 0;
  std::string input_format = "text";
  std::string field{};  ///< empty: all of a record
  std::vector<JobStage> then{};
  std::uint64_t max_bad_records = 0;
};
/// False cancels the job; what it throws does, too, and is thrown again.
using OnProgress = std::function<bool(const aios_mapreduce_progress&)>;

/// A program's place in a running instance of AIOS.
class Instance {
 public:
  /// Attaches to $AIOS_SOCKET, the user's own instance, or the system's.
  Instance() : Instance(aios_attach_options{}) {}
  explicit Instance(const aios_attach_options& options) {
    aios_instance* instance = nullptr;
    check(aios_attach(&options, &instance));
    instance_.reset(instance);
  }
  aios_instance* get() const noexcept { return instance_.get(); }

  Service connect(const std::string& name, std::uint64_t protocol_version) {
    aios_service* service = nullptr;
    check(aios_connect(get(), name.c_str(), protocol_version, &service));
    return Service(service);
  }
  Server serve(const std::string& label, std::uint64_t protocol_version) {
    aios_server* server = nullptr;
    check(aios_server_create(get(), label.c_str(), protocol_version, &server));
    return Server(server);
  }
  /// `flags` as in aios.h: AIOS_REGION_FREEZABLE, AIOS_REGION_HUGE_PAGES, AIOS_REGION_ON_NODE(n)...
  Region create_region(std::uint64_t size_bytes, const std::string& name = {},
                       std::uint32_t flags = 0) {
    aios_region* region = nullptr;
    check(aios_region_create(get(), size_bytes, name.c_str(), flags, &region));
    return Region(region);
  }
  Region open_region(const std::string& label, Access access) {
    aios_region* region = nullptr;
    check(aios_region_open(get(), label.c_str(), static_cast<std::uint32_t>(access), &region));
    return Region(region);
  }
  void forget(const std::string& label) { check(aios_forget(get(), label.c_str())); }
  Storage storage(std::uint64_t timeout_ns) {
    aios_storage* storage = nullptr;
    check(aios_storage_open(get(), &storage));
    return Storage(storage, timeout_ns);
  }
  Tenant tenant(std::uint64_t timeout_ns) {
    aios_tenant* tenant = nullptr;
    check(aios_tenant_open(get(), timeout_ns, &tenant));
    return Tenant(tenant, timeout_ns);
  }
  aios_mapreduce_result run_job(const JobOptions& options, const OnProgress& on_progress = {});

  /// For foreign event loops.
  int poll_fd() {
    int fd = -1;
    check(aios_poll_fd(get(), &fd));
    return fd;
  }
  /// True: there is something to dispatch already.
  bool arm() {
    int ready = 0;
    check(aios_arm(get(), &ready));
    return ready != 0;
  }
  void disarm() { check(aios_disarm(get())); }
  void dispatch() { check(aios_dispatch(get())); }

 private:
  detail::Owner<aios_instance, aios_detach> instance_;
};

/// Waits until one of them is ready; false when none was in time.
inline bool wait(std::span<aios_wait_item> items, std::uint64_t timeout_ns) {
  const aios_code code = aios_wait(items.data(), items.size(), timeout_ns);
  if (code == AIOS_TIMED_OUT) return false;
  check(code);
  return true;
}

}  // namespace v0
}  // namespace aios

#include <aios/graph.hpp>  // IWYU pragma: export
#include <aios/job.hpp>    // IWYU pragma: export
