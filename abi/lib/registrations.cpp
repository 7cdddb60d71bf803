#include "abi/lib/registrations.hpp"

#include <algorithm>

#include "abi/include/aios/codelet.h"

namespace aios {

namespace {
/// More than a scheduler gives out.
constexpr std::uint32_t max_number = 1u << 16;
}  // namespace

template <class T>
std::uint32_t Registrations::place(std::vector<std::unique_ptr<T>>& all, T one) {
  std::size_t number = one.there;
  if (number >= all.size() && number <= max_number)
    all.resize(number + 1);
  else if (number > max_number || all[number] != nullptr)
    number = static_cast<std::size_t>(
        std::ranges::find_if(all, [](const auto& one) { return one == nullptr; }) - all.begin());
  if (number == all.size()) all.emplace_back();
  all[number] = std::make_unique<T>(std::move(one));
  return static_cast<std::uint32_t>(number);
}

template std::uint32_t Registrations::place(std::vector<std::unique_ptr<Codelet>>&, Codelet);
template std::uint32_t Registrations::place(std::vector<std::unique_ptr<Buffer>>&, Buffer);

Result<Registrations::Kept> Registrations::keep(Handle region, bool writable) {
  const auto info = TRY(kernel_.call<proto::kernel::HandleInfo>({region})).reply;
  std::weak_ptr<KeptHandle>& known = kept_[{info.object_id, writable}];
  if (auto handle = known.lock()) return Kept{std::move(handle), info.object_id};
  const std::uint32_t use = rights::info | rights::send;
  const std::uint32_t grant = use | rights::map_read | (writable ? rights::map_write : 0);
  const Handle own = TRY(kernel_.duplicate(region, use, grant));
  const auto handle = std::make_shared<KeptHandle>(kernel_, own);
  known = handle;
  return Kept{handle, info.object_id};
}

void Registrations::remove_buffer(std::uint32_t buffer) {
  if (buffer < buffers_.size()) buffers_[buffer].reset();
  std::erase_if(kept_, [](const auto& one) { return one.second.expired(); });
}

Result<std::uint32_t> Registrations::codelet_there(std::uint32_t codelet) const {
  if (codelet < codelets_.size() && codelets_[codelet] != nullptr) return codelets_[codelet]->there;
  return error(Code::invalid_argument, "no codelet " + std::to_string(codelet) + " is registered");
}

std::uint32_t Registrations::cheaper_of(std::uint32_t codelet) const {
  if (codelet >= codelets_.size() || codelets_[codelet] == nullptr) return codelet;
  return codelets_[codelet]->cheaper.value_or(codelet);
}

Result<std::uint32_t> Registrations::buffer_there(std::uint32_t buffer) const {
  if (buffer < buffers_.size() && buffers_[buffer] != nullptr) return buffers_[buffer]->there;
  return error(Code::not_found, "no buffer " + std::to_string(buffer) + " is registered");
}

void Registrations::for_each_codelet(const std::function<void(Codelet&)>& call) {
  for (const auto& codelet : codelets_)
    if (codelet != nullptr) call(*codelet);
}

void Registrations::for_each_buffer(const std::function<void(Buffer&)>& call) {
  for (const auto& buffer : buffers_)
    if (buffer != nullptr) call(*buffer);
}

Result<void> Registrations::translate(std::span<proto::scheduler::TaskRecord> records) const {
  for (auto& record : records) TRY(translate(record));
  return {};
}

Result<void> Registrations::translate(proto::scheduler::TaskRecord& record) const {
  const auto wrong = [&](const std::string& what) {
    return error(Code::invalid_argument, "task " + std::to_string(record.tag) + ": " + what);
  };
  if ((record.flags & proto::scheduler::task_flag::join) != 0) return {};
  if (record.codelet >= codelets_.size() || codelets_[record.codelet] == nullptr)
    return wrong("no codelet " + std::to_string(record.codelet) + " is registered");
  record.codelet = codelets_[record.codelet]->there;
  if (record.buffer_count > proto::context::max_task_buffers) return wrong("too many buffers");
  for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
    const std::uint32_t buffer = record.buffers[i] & 0x0fffffff;
    const std::uint32_t mode = record.buffers[i] >> 28;
    if (buffer >= buffers_.size() || buffers_[buffer] == nullptr)
      return wrong("no buffer " + std::to_string(buffer) + " is registered");
    if (mode != AIOS_MODE_READ && !buffers_[buffer]->writable)
      return wrong("it writes buffer " + std::to_string(buffer) +
                   ", which is registered read-only");
    record.buffers[i] = buffers_[buffer]->there | mode << 28;
  }
  return {};
}

TaskLedger::MemoryOf Registrations::memory() const {
  std::vector<std::optional<TaskLedger::Memory>> known(buffers_.size());
  std::vector<std::uint32_t> order;
  for (std::uint32_t i = 0; i < buffers_.size(); ++i)
    if (buffers_[i] != nullptr) order.push_back(i);
  std::ranges::sort(order, {}, [this](std::uint32_t i) {
    return std::pair(buffers_[i]->object_id, buffers_[i]->offset);
  });
  for (std::size_t first = 0, next; first < order.size(); first = next) {
    const Buffer& begin = *buffers_[order[first]];
    std::uint64_t end = begin.offset + begin.length;
    bool whole = true;
    for (next = first + 1; next < order.size(); ++next) {
      const Buffer& one = *buffers_[order[next]];
      if (one.object_id != begin.object_id || one.offset >= end) break;
      whole = whole && one.offset == begin.offset && one.length == begin.length;
      end = std::max(end, one.offset + one.length);
    }
    for (std::size_t i = first; i < next; ++i)
      known[order[i]] = TaskLedger::Memory{order[first], whole};
  }
  return [known = std::move(known)](std::uint32_t buffer) -> std::optional<TaskLedger::Memory> {
    return buffer < known.size() ? known[buffer] : std::nullopt;
  };
}

}  // namespace aios
