#include "tests/hostile/peer.hpp"

#include <sched.h>

#include <algorithm>
#include <bit>

#include "abi/proto/echo.hpp"
#include "abi/proto/mapreduce.hpp"
#include "abi/proto/scheduler.hpp"
#include "abi/proto/storage.hpp"
#include "abi/proto/supervisor.hpp"

namespace aios::hostile {

namespace {

template <class... Ms>
std::vector<MethodShape> shapes_of(proto::MethodList<Ms...>) {
  static const auto fields = std::make_tuple(Ms::Request::fields()...);
  return std::apply(
      [](const auto&... each) {
        return std::vector<MethodShape>{
            {Ms::opcode, sizeof(typename Ms::Request), std::span(each)}...};
      },
      fields);
}

template <class Protocol>
Target target_of(std::string name = Protocol::name) {
  return {std::move(name), Protocol::version, shapes_of(typename Protocol::Methods{})};
}

bool names_a_handle(const proto::FieldInfo& field) {
  const std::string_view name = field.name;
  return field.size == 8 && (name == "region" || name == "job" || name == "object");
}

/// What a name field may hold: a good name, one that is not terminated, or one with a NUL inside.
void fill_text(Random& random, std::span<std::byte> text) {
  constexpr std::string_view good = "hostile/a/b";
  std::ranges::fill(text, std::byte{0});
  std::transform(good.begin(), good.begin() + std::min(good.size(), text.size() - 1), text.begin(),
                 [](char c) { return static_cast<std::byte>(c); });
  switch (random.below(6)) {
    case 0:
      std::ranges::fill(text, std::byte{'x'});
      return;
    case 1:
      text[text.size() - 1] = std::byte{'x'};
      return;
    case 2:
      random.fill(text);
      return;
    case 3:
      text[random.below(std::min<std::size_t>(text.size(), 11))] =
          static_cast<std::byte>(random.below(48));
      return;
    default:
      return;
  }
}

}  // namespace

std::uint64_t Random::edge() {
  switch (below(8)) {
    case 0:
      return 0;
    case 1:
      return below(16);
    case 2:
      return ~0ull - below(4);
    case 3:
      return (1ull << below(64)) - 1;
    case 4:
      return 1ull << below(64);
    case 5:
      return ~0ull << below(64);
    case 6:
      return Peer::region_bytes - 1 + below(3);
    default:
      return any();
  }
}

std::vector<Target> all_targets() {
  std::vector<Target> targets;
  targets.push_back(target_of<proto::echo::Protocol>());
  targets.push_back(target_of<proto::storage::Protocol>());
  targets.push_back(target_of<proto::scheduler::Protocol>());
  targets.push_back(target_of<proto::mapreduce::Protocol>());
  // Without `crash`, which does what it says for every program of the instance's own uid.
  targets.push_back(target_of<proto::supervisor::Protocol>());
  std::erase_if(targets.back().methods, [](const MethodShape& shape) {
    return shape.opcode == proto::supervisor::Crash::opcode;
  });
  return targets;
}

Mutator::Mutator(std::uint64_t seed) : thread_([this, seed] { run(seed); }) {}

Mutator::~Mutator() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Mutator::start(std::span<std::byte> memory, Mode mode) {
  {
    const std::lock_guard lock(mutex_);
    memory_ = memory;
    mode_ = mode;
  }
  changed_.notify_one();
}

void Mutator::stop() {
  const std::lock_guard lock(mutex_);
  memory_ = {};
}

void Mutator::run(std::uint64_t seed) {
  Random random(seed);
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ending_ || !memory_.empty(); });
      if (ending_) return;
      for (int i = 0; i < 200; ++i) write_some(random);
    }
    ::sched_yield();
  }
}

void Mutator::write_some(Random& random) {
  switch (mode_) {
    case Mode::lengths: {
      const auto length = static_cast<std::uint16_t>(
          random.one_in(2) ? random.below(proto::max_payload_bytes + 1) : random.any());
      __atomic_store_n(reinterpret_cast<std::uint16_t*>(memory_.data() + 2), length,
                       __ATOMIC_RELAXED);
      return;
    }
    case Mode::bytes:
      __atomic_store_n(
          reinterpret_cast<std::uint8_t*>(memory_.data() + random.below(memory_.size())),
          static_cast<std::uint8_t>(random.any()), __ATOMIC_RELAXED);
      return;
    case Mode::sequences: {
      auto* slots = reinterpret_cast<proto::Slot*>(memory_.data());
      auto& sequence = slots[random.below(memory_.size() / sizeof(proto::Slot))].sequence;
      const std::uint64_t right = sequence.load(std::memory_order_relaxed);
      sequence.store(right + random.below(3) - 1, std::memory_order_relaxed);
      sequence.store(right, std::memory_order_relaxed);
      return;
    }
  }
}

Peer::Peer(std::string path, std::uint64_t seed)
    : socket_path(std::move(path)), random(seed), mutator(seed + 1), targets(all_targets()) {}

Target& Peer::target(std::string_view name) {
  return *std::ranges::find(targets, name, &Target::name);
}

RawKernel& Peer::kernel(std::size_t who) {
  auto& kernel = kernels_[who];
  if (kernel != nullptr && !kernel->lost()) return *kernel;
  std::erase_if(links_, [who](const auto& entry) { return entry.first.second == who; });
  kernel = RawKernel::ready(socket_path, "hostile");
  if (kernel == nullptr) breach("the kernel no longer accepts a process");
  ports_[who].clear();
  for (const Target& target : targets) {
    ports_[who].push_back(kernel->startup(target.name));
    if (ports_[who].back() == 0) breach("the port of " + target.name + " is not published");
  }
  // A program of the instance's own uid may do anything with it, so this one does without.
  kernel->close(kernel->startup("root"));
  const auto made = kernel->call<wire::RegionCreate>({region_bytes, wire::Name::from("hostile")});
  regions_[who] = made.reply.region;
  return *kernel;
}

Handle Peer::region(std::size_t who) {
  kernel(who);
  return regions_[who];
}

RawLink* Peer::link(Target& target, std::size_t who) {
  RawKernel& own = kernel(who);
  auto& link = links_[{target.name, who}];
  if (link != nullptr && link->closed()) link.reset();
  if (link == nullptr) {
    const auto at = static_cast<std::size_t>(&target - targets.data());
    link = RawLink::connect(own, ports_[who][at], target.version);
  }
  return link.get();
}

void Peer::drop(Target& target, std::size_t who) {
  links_.erase({target.name, who});
}

Handle Peer::send_region(RawLink& link, std::size_t who, Handle handle, std::uint32_t use,
                         std::uint32_t grant) {
  wire::LinkSend::Request request{};
  request.link = link.handle();
  request.count = 1;
  request.entries[0] = {handle, static_cast<std::uint32_t>(wire::ObjectType::region), use, grant,
                        0};
  const auto sent = kernel(who).call<wire::LinkSend>(request);
  if (!sent.ok()) return 0;
  if (known_numbers.size() < 256)
    known_numbers.push_back(sent.reply.handles[0]);
  else
    known_numbers[random.below(known_numbers.size())] = sent.reply.handles[0];
  return sent.reply.handles[0];
}

std::vector<std::byte> Peer::request_of(const MethodShape& shape, bool random_bytes) {
  std::vector<std::byte> request(shape.request_bytes);
  if (random_bytes) {
    random.fill(request);
    return request;
  }
  for (const proto::FieldInfo& field : shape.fields) {
    const auto bytes = std::span(request).subspan(field.offset, field.size);
    std::uint64_t value = random.edge();
    if (std::string_view(field.name) == "reserved") value = 0;
    if (names_a_handle(field) && !known_numbers.empty() && random.one_in(2))
      value = known_numbers[random.below(known_numbers.size())] + (random.below(3) << 32);
    else if (names_a_handle(field))
      value = random.below(64) | (1 + random.below(3)) << 32;
    if (field.size > 8)
      fill_text(random, bytes);
    else
      std::memcpy(bytes.data(), &value, field.size);
  }
  return request;
}

}  // namespace aios::hostile
