// Both ends of a ring whose other end writes what it likes, also between two reads of it; and a
// ring between two honest ends, which carries every message as it was.
#include <array>
#include <deque>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "abi/runtime/ring.hpp"
#include "tests/fuzz/bytes.hpp"
#include "tests/fuzz/entry.hpp"
#include "tests/fuzz/values.hpp"

namespace {

using namespace aios;
using namespace aios::fuzz;

constexpr int max_steps = 2000;

struct alignas(proto::page_bytes) Half {
  std::byte bytes[proto::half_bytes]{};
  proto::Slot& slot(std::uint64_t position) {
    return reinterpret_cast<proto::Slot*>(bytes + proto::page_bytes)[position % proto::slot_count];
  }
  proto::HalfHeader& header() { return *reinterpret_cast<proto::HalfHeader*>(bytes); }
};

/// An honest end and what the other one writes.
class Ring {
 public:
  explicit Ring(Bytes input) : input_(input) {}
  void run() {
    for (int i = 0; i < max_steps && !input_.empty() && !broken_; ++i) step();
  }

 private:
  void step() {
    switch (input_.byte() % 10) {
      case 0:
      case 1:
        return receive();
      case 2:
        return send();
      case 3:
        return look();
      case 4:  // a peer that keeps the rules
        return peer_send(input_.below(proto::max_payload_bytes + 1));
      case 5:  // a message that is published, whatever its header says
        return peer_send(input_.take<std::uint16_t>());
      case 6:
        theirs_->slot(input_.take<std::uint16_t>())
            .sequence.store(input_.byte() % 4 == 0 ? input_.take<std::uint64_t>()
                                                   : position_ + input_.byte());
        return;
      case 7:
        theirs_->header().consumed.store(input_.byte() % 4 == 0
                                             ? input_.take<std::uint64_t>()
                                             : sent_slots_ + 4 - input_.byte() % 8);
        return;
      case 8:
        theirs_->header().consumed.store(sent_slots_);
        return;
      default: {
        const std::size_t at = input_.take<std::uint32_t>() % (proto::half_bytes - 32);
        input_.fill(std::span(theirs_->bytes).subspan(at, 1 + input_.below(32)));
      }
    }
  }

  void receive() {
    Message message;
    switch (receiver_.pop(message)) {
      case RingResult::done: {
        check_message(message);
        received_slots_ += slots_for(message.header.length);
        if (ours_->header().consumed.load() != received_slots_)
          finding("the receiver says that it consumed something else");
        break;
      }
      case RingResult::would_block:
        if (receiver_.ready()) finding("ready, but nothing is there");
        break;
      case RingResult::broken:
        broken_ = true;
    }
  }

  /// What was received is what lies there, all of it published.
  void check_message(const Message& message) {
    if (message.header.length > proto::max_payload_bytes) finding("a message longer than any");
    std::array<std::byte, sizeof message.header + proto::max_payload_bytes> expected;
    const std::size_t length = sizeof message.header + message.header.length;
    for (std::uint32_t i = 0; i < slots_for(message.header.length); ++i) {
      const proto::Slot& slot = theirs_->slot(received_slots_ + i);
      if (slot.sequence.load() != received_slots_ + i + 1) finding("a slot that nobody published");
      std::ranges::copy(slot.payload, expected.data() + i * proto::slot_payload_bytes);
    }
    if (std::memcmp(expected.data(), &message.header, sizeof message.header) != 0 ||
        std::memcmp(expected.data() + sizeof message.header, message.payload.data(),
                    length - sizeof message.header) != 0)
      finding("a message that nobody sent");
  }

  void send() {
    std::vector<std::byte> payload(input_.below(proto::max_payload_bytes + 1));
    input_.fill(std::span(payload).first(std::min<std::size_t>(payload.size(), 8)));
    const proto::MessageHeader header{1, static_cast<std::uint16_t>(payload.size()), 1};
    look_at_peer();
    switch (sender_.push(header, payload)) {
      case RingResult::done:
        check_room(slots_for(payload.size()));
        sent_slots_ += slots_for(payload.size());
        break;
      case RingResult::would_block:
        break;
      case RingResult::broken:
        broken_ = true;
    }
  }

  void look() {
    const auto slots = static_cast<std::uint32_t>(1 + input_.below(proto::max_message_slots));
    look_at_peer();
    const RingResult result = sender_.room(slots);
    broken_ = result == RingResult::broken;
    if (result == RingResult::done) check_room(slots);
    (void)receiver_.ready();
    (void)receiver_.peer_stalled();
    sender_.set_stalled(input_.byte() % 2 == 0);
  }

  /// What the peer says it consumed; more than was sent it cannot have.
  void look_at_peer() {
    const std::uint64_t said = theirs_->header().consumed.load();
    if (said <= sent_slots_) most_consumed_ = std::max(most_consumed_, said);
  }
  void check_room(std::uint32_t slots) {
    if (sent_slots_ + slots > most_consumed_ + proto::slot_count)
      finding("more room than there is");
  }

  void peer_send(std::size_t length) {
    const std::uint32_t count =
        std::min(slots_for(std::min(length, proto::max_payload_bytes)), proto::max_message_slots);
    const proto::MessageHeader header{input_.take<std::uint16_t>(),
                                      static_cast<std::uint16_t>(length), 1};
    std::memcpy(theirs_->slot(position_).payload, &header, sizeof header);
    for (std::uint32_t i = 0; i < count; ++i)
      theirs_->slot(position_ + i).sequence.store(position_ + i + 1);
    position_ += count;
  }

  Bytes input_;
  std::unique_ptr<Half> ours_ = std::make_unique<Half>();
  std::unique_ptr<Half> theirs_ = std::make_unique<Half>();
  RingSender sender_{ours_->bytes, theirs_->bytes};
  RingReceiver receiver_{ours_->bytes, theirs_->bytes};
  std::uint64_t position_ = 0;  ///< of the peer's next message
  std::uint64_t sent_slots_ = 0;
  std::uint64_t received_slots_ = 0;
  std::uint64_t most_consumed_ = 0;
  bool broken_ = false;
};

/// Two honest ends: what is pushed comes out, in order, unless there is no room.
void run_honest(Bytes input) {
  const auto a = std::make_unique<Half>(), b = std::make_unique<Half>();
  RingSender sender(a->bytes, b->bytes);
  RingReceiver receiver(b->bytes, a->bytes);
  std::deque<std::vector<std::byte>> under_way;
  for (int i = 0; i < max_steps && !input.empty(); ++i) {
    if (input.byte() % 3 != 0) {
      std::vector<std::byte> payload(input.below(proto::max_payload_bytes + 1));
      input.fill(std::span(payload).first(std::min<std::size_t>(payload.size(), 8)));
      const proto::MessageHeader header{7, static_cast<std::uint16_t>(payload.size()), 9};
      const RingResult result = sender.push(header, payload);
      if (result == RingResult::broken) finding("an honest receiver breaks the ring");
      if (result == RingResult::done) under_way.push_back(std::move(payload));
      continue;
    }
    Message message;
    const RingResult result = receiver.pop(message);
    if (result == RingResult::broken) finding("an honest sender breaks the ring");
    if ((result == RingResult::done) == under_way.empty())
      finding("a message is lost, or invented");
    if (under_way.empty()) continue;
    const auto bytes = message.bytes();
    if (message.header.opcode != 7 || message.header.call_id != 9 ||
        !std::equal(bytes.begin(), bytes.end(), under_way.front().begin(), under_way.front().end()))
      finding("a message was changed on its way");
    under_way.pop_front();
  }
}

void write_seeds(const std::filesystem::path& folder) {
  const auto write = [&folder](const char* name, const std::string& bytes) {
    std::ofstream(folder / name, std::ios::binary) << bytes;
  };
  std::string hostile(1, '\0'), honest(1, '\1'), full(1, '\0');
  for (int i = 0; i < 300; ++i) {
    hostile += {4, static_cast<char>(i), 0, 1, 0, 0, 2, 40, 0, 8, 3};
    honest += {1, static_cast<char>(i), 0, static_cast<char>(i), 2, 0, 0};
  }
  // Large messages to a peer that consumes them late, and says so.
  for (int i = 0; i < 200; ++i)
    full +=
        std::string{2, '\xb8', 1} + std::string(8, 'a') + (i % 70 == 69 ? std::string(1, 8) : "");
  write("full", full);
  write("hostile", hostile);
  write("honest", honest);
}

void run(std::span<const std::uint8_t> input_bytes) {
  Bytes input(input_bytes);
  if (input.byte() % 2 == 0)
    Ring(input).run();
  else
    run_honest(input);
}

}  // namespace

AIOS_FUZZ_PROGRAM(write_seeds, run)
