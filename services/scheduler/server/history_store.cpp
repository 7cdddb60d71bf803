#include "services/scheduler/server/history_store.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "abi/proto/storage.hpp"
#include "abi/runtime/log.hpp"

namespace aios::scheduler {

namespace wire = proto::storage;

namespace {

constexpr std::uint64_t call_ns = 10 * ns_per_s;
constexpr std::uint64_t retry_ns = 5 * ns_per_s;
constexpr std::uint64_t least_pause_ns = 2 * ns_per_s;
/// Of the scheduler's time, making what is stored may take so much.
constexpr std::uint64_t pause_by_work = 200;
/// At the end others wait for it.
constexpr std::uint64_t flush_ns = 500 * ns_per_ms;

}  // namespace

HistoryStore::HistoryStore(Kernel& kernel, EventLoop& loop, std::unique_ptr<Client> client,
                           std::string name, std::size_t most_bytes)
    : kernel_(kernel),
      loop_(loop),
      name_(std::move(name)),
      most_bytes_(most_bytes),
      pause_ns_(least_pause_ns),
      client_(std::move(client)) {}

HistoryStore::~HistoryStore() {
  loop_.cancel(timer_);
  // No callback may come into what is half gone.
  client_.reset();
}

void HistoryStore::start(std::function<void(const Bytes&)> fetched,
                         std::function<Bytes()> contents) {
  fetched_ = std::move(fetched);
  contents_ = std::move(contents);
  fetch();
}

// ---- fetching ---------------------------------------------------------------------------------

void HistoryStore::fetch() {
  is_busy_ = true;
  client_->start<wire::Stat>(
      {wire::ObjectName::from(name_)}, Deadline::after(call_ns),
      [this](const Result<wire::Stat::Reply>& reply) {
        if (!reply) return fetch_again(reply.error());
        if (reply->size_bytes == 0 || reply->size_bytes > most_bytes_)
          return fetch_again(Status(Code::corrupt, std::to_string(reply->size_bytes) + " bytes"));
        get(reply->size_bytes);
      });
}

/// Or not at all, where that would not help.
void HistoryStore::fetch_again(const Status& why) {
  region_ = {};
  const Code code = why.code();
  if (code != Code::not_found && code != Code::corrupt && code != Code::denied) {
    loop_.cancel(timer_);
    timer_ = loop_.after(retry_ns, [this] { fetch(); });
    return ended();
  }
  is_known_ = true;
  if (code != Code::not_found)
    log_line("the stored " + name_ + " is dropped, learning begins anew: " + why.to_string());
  ended();
}

void HistoryStore::get(std::uint64_t bytes) {
  Result<Region> made = Region::create(kernel_, bytes, name_);
  if (!made) return fetch_again(made.error());
  region_ = std::move(*made);
  attach(region_, true, Deadline::after(call_ns), [this, bytes](const auto& number) {
    if (!number) return fetch_again(number.error());
    wire::Get::Request request{};
    request.length = bytes;
    request.region = *number;
    request.object = wire::ObjectName::from(name_);
    client_->start<wire::Get>(
        request, Deadline::after(call_ns), [this, number = *number](const auto& reply) {
          client_->start<wire::DetachRegion>({number}, Deadline::after(call_ns),
                                             [](const Result<proto::Empty>&) {});
          if (!reply) return fetch_again(reply.error());
          // Storage may still have it: copied before it is looked at.
          const auto* first = region_.data();
          const Bytes copy(first, first + std::min<std::uint64_t>(reply->length, region_.size()));
          region_ = {};
          is_known_ = true;
          fetched_(copy);
          ended();
        });
  });
}

// ---- storing ------------------------------------------------------------------------------------

void HistoryStore::changed() {
  is_dirty_ = true;
  if (!is_known_ || is_busy_ || timer_ != 0) return;
  timer_ = loop_.after(pause_ns_, [this] {
    timer_ = 0;
    put(call_ns);
  });
}

void HistoryStore::flush(std::function<void()> done) {
  flushed_ = std::move(done);
  if (is_busy_) return;
  loop_.cancel(std::exchange(timer_, 0));
  if (is_known_ && is_dirty_)
    put(flush_ns);
  else
    ended();
}

void HistoryStore::put(std::uint64_t within_ns) {
  is_busy_ = true;
  is_dirty_ = false;
  const std::uint64_t began_ns = now_ns();
  const Bytes bytes = contents_();
  Result<Region> made = Region::create(kernel_, bytes.size(), name_);
  pause_ns_ = std::max(least_pause_ns, (now_ns() - began_ns) * pause_by_work);
  const auto failed = [this](const Status& why) {
    log_line("the " + name_ + " is not stored: " + why.to_string());
    region_ = {};
    is_dirty_ = true;
    pause_ns_ = std::max(pause_ns_, retry_ns);
    ended();
  };
  if (!made) return failed(made.error());
  region_ = std::move(*made);
  std::memcpy(region_.data(), bytes.data(), bytes.size());
  const Deadline deadline = Deadline::after(within_ns);
  attach(region_, false, deadline,
         [this, deadline, failed, size = bytes.size()](const auto& number) {
           if (!number) return failed(number.error());
           wire::Put::Request request{};
           request.length = size;
           request.region = *number;
           request.object = wire::ObjectName::from(name_);
           client_->start<wire::Put>(
               request, deadline, [this, failed, number = *number](const auto& reply) {
                 client_->start<wire::DetachRegion>({number}, Deadline::after(call_ns),
                                                    [](const Result<proto::Empty>&) {});
                 if (!reply) return failed(reply.error());
                 region_ = {};
                 ended();
               });
         });
}

void HistoryStore::attach(const Region& region, bool writable, Deadline deadline,
                          std::function<void(const Result<std::uint32_t>&)> then) {
  const std::uint32_t use =
      rights::info | rights::map_read | (writable ? std::uint32_t{rights::map_write} : 0);
  client_->start_with_handles<wire::AttachRegion>(
      {0, writable ? 1u : 0u}, {{region.handle(), ObjectType::region, use, 0, false}},
      [](std::span<const Handle> numbers, wire::AttachRegion::Request& request) {
        request.region = numbers.front();
      },
      deadline,
      [then = std::move(then)](const Result<wire::AttachRegion::Reply>& reply) {
        if (reply)
          then(reply->region);
        else
          then(std::unexpected(reply.error()));
      });
}

void HistoryStore::ended() {
  is_busy_ = false;
  if (flushed_) {
    std::exchange(flushed_, {})();
  } else if (is_dirty_) {
    changed();
  }
}

}  // namespace aios::scheduler
