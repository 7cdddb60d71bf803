#include "kernel/process.hpp"

#include <unistd.h>

#include <cassert>

namespace aios::kernel {

Result<void> Process::join(std::shared_ptr<Job> job) {
  assert(!joined());
  if (job->killed()) return error(Code::denied, "the job was killed");
  charge_ = TRY(job->hold(Job::processes, 1));
  handles.set_job(job);
  job_ = std::move(job);
  return {};
}

Result<void> Process::give(std::string_view label, Reference reference, bool kept) {
  const Handle handle = TRY(handles.install(std::move(reference)));
  startup_.push_back({std::string(label), handle, kept});
  return {};
}

Result<void> Process::open_pages() {
  assert(joined() && !has_pages());
  const auto make = [this](const char* name) {
    return Region::create(registry_, *this, Name::from(name), proto::page_bytes,
                          RegionKind::control);
  };
  status_page_ = TRY(make("status page"));
  kernel_page_ = TRY(make("kernel page"));
  kernel_page_mapping_ =
      TRY(Mapping::map(kernel_page_->writable(), proto::page_bytes, Mapping::Access::read_write));
  TRY(kernel_page_->seal_writer());
  kernel_bell_ = TRY(sys::Doorbell::create());
  if (handles.has_signals()) signalled();
  return {};
}

std::uint64_t Process::sandbox() const {
  std::uint64_t word = 0;
  constexpr auto offset = offsetof(proto::StatusPage, sandbox);
  if (has_pages()) (void)!::pread(status_page_->read_only().get(), &word, sizeof word, offset);
  return word;
}

Result<std::uint32_t> Process::take_link_index() {
  if (link_indices_.all()) return error(Code::quota, "the process has as many links as it may");
  std::uint32_t index = 0;
  while (link_indices_.test(index)) ++index;
  link_indices_.set(index);
  page().closed[index / 64].fetch_and(~(1ull << index % 64));
  return index;
}

void Process::mark_link_closed(std::uint32_t index) {
  page().closed[index / 64].fetch_or(1ull << index % 64);
}

void Process::signalled() {
  if (!has_pages()) return;
  page().signals.fetch_add(1);
  kernel_bell_.ring();
}

void Process::close_socket() {
  if (socket.valid() && !socket_refuses_files)
    registry_.released_sockets.push_back(std::move(socket));
  socket.reset();
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
  close_socket();
  pidfd.reset();
  raise(signal::exited);
  charge_.reset();
}

}  // namespace aios::kernel
