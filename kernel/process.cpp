#include "kernel/process.hpp"

#include <cassert>
#include <new>

#include "kernel/limits.hpp"

namespace aios::kernel {

namespace {

proto::KernelPage& page_in(const Mapping& mapping) {
  // A page of zeros is a KernelPage of zeros; nobody else writes it.
  return *std::launder(reinterpret_cast<proto::KernelPage*>(mapping.data()));
}

}  // namespace

Process::Process(Registry& registry, std::uint64_t id, Kind kind, const Name& name)
    : Object(object_type, id), handles(*this), registry_(registry), kind_(kind), name_(name) {}

Result<void> Process::join(std::shared_ptr<Job> job) {
  assert(!joined());
  if (job->killed()) return error(Code::denied, "the job was killed");
  charge_ = TRY(job->hold(Resource::processes, 1));
  handles.set_job(job);
  job_ = std::move(job);
  return {};
}

Result<Handle> Process::give(std::string_view label, Reference reference, bool kept) {
  const Handle handle = TRY(handles.install(std::move(reference)));
  startup_.push_back({std::string(label), handle, kept});
  return handle;
}

Result<void> Process::open_pages() {
  assert(joined() && !has_pages());
  auto status_page = TRY(Region::create(registry_, *this, Name::from("status page"),
                                        proto::page_bytes, RegionKind::control));
  auto kernel_page = TRY(Region::create(registry_, *this, Name::from("kernel page"),
                                        proto::page_bytes, RegionKind::control));
  kernel_page_mapping_ =
      TRY(Mapping::map(kernel_page->writable(), proto::page_bytes, Mapping::Access::read_write));
  TRY(kernel_page->seal_writer());
  kernel_bell_ = TRY(sys::Doorbell::create());
  status_page_ = std::move(status_page);
  kernel_page_ = std::move(kernel_page);
  if (handles.has_signals()) signalled();
  return {};
}

Result<void> Process::seal_status_page() {
  assert(has_pages() && !ready_);
  TRY(status_page_->seal_writer());
  ready_ = true;
  return {};
}

Result<std::uint32_t> Process::take_link_index() {
  for (std::uint32_t index = 0; index < limits::links_per_process; ++index) {
    if (link_indices_.test(index)) continue;
    link_indices_.set(index);
    page_in(kernel_page_mapping_)
        .closed[index / 64]
        .fetch_and(~(1ull << index % 64), std::memory_order_release);
    return index;
  }
  return error(Code::quota, "the process has as many links as it may");
}

void Process::release_link_index(std::uint32_t index) {
  link_indices_.reset(index);
}

void Process::mark_link_closed(std::uint32_t index) {
  if (kernel_page_mapping_.valid())
    page_in(kernel_page_mapping_)
        .closed[index / 64]
        .fetch_or(1ull << index % 64, std::memory_order_release);
}

void Process::signalled() {
  if (!has_pages()) return;
  page_in(kernel_page_mapping_).signals.fetch_add(1, std::memory_order_release);
  kernel_bell_.ring();
}

void Process::die(sys::ExitStatus status) {
  assert(alive_);
  alive_ = false;
  exit_status_ = status;
  handles.clear();
  startup_.clear();
  kernel_page_mapping_.reset();
  kernel_bell_ = {};
  status_page_.reset();
  kernel_page_.reset();
  socket.reset();
  pidfd.reset();
  raise(signal::exited);
  charge_.reset();
}

}  // namespace aios::kernel
