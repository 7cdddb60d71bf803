// A port, where connections wait for a server, and a link between two processes: the client, which
// connected, and the server, which accepted.
//
//   connecting --client ready--> waiting --accept--> accepted --server ready--> open
//        \_______________________\__________________\_______________________\--> closed
//
// Each side holds one handle, which names a LinkEnd; closing it, or dying, closes the link for
// both. `waiting` survives the death of the server, which has not taken it yet.
#pragma once

#include "kernel/process.hpp"

namespace aios::kernel {

class Link;
class LinkEnd;

/// A port lives as long as a handle, a kept label or a publication names it: it outlives its
/// server.
class Port final : public Object {
 public:
  static constexpr ObjectType object_type = ObjectType::port;
  static constexpr std::uint32_t handle_rights = rights::info | rights::duplicate | rights::send |
                                                 rights::connect | rights::accept | rights::manage;

  Port(std::uint64_t id, const Name& name) : Object(object_type, id, name) {}
  ~Port() override { set_down(true); }
  /// Whether nobody will accept, until further notice: what waits is closed, the rest refused.
  void set_down(bool down);
  bool down() const { return down_; }
  std::uint64_t detail() const override { return down_; }
  void push(std::shared_ptr<Link> link) {
    waiting_.push_back(std::move(link));
    raise(signal::connect_pending);
  }
  /// The oldest one, or null. It stays until `remove`.
  std::shared_ptr<Link> front() const { return waiting_.empty() ? nullptr : waiting_.front(); }
  void remove(const Link& link) {
    std::erase_if(waiting_, [&link](const auto& waiting) { return waiting.get() == &link; });
  }
  std::uint32_t standing_signals() const override {
    return waiting_.empty() ? 0 : signal::connect_pending;
  }

 private:
  std::deque<std::shared_ptr<Link>> waiting_;
  bool down_ = false;
};

class Link : public std::enable_shared_from_this<Link> {
 public:
  enum class State : std::uint32_t { connecting, waiting, accepted, open, closed };
  enum SideIndex : std::size_t { client = 0, server = 1 };

  /// The end of the connecting side. quota; no_memory.
  static Result<std::shared_ptr<LinkEnd>> connect(Registry& registry, Process& process,
                                                  const std::shared_ptr<Port>& port,
                                                  std::uint64_t protocol_version);
  /// Takes a waiting link for a server and out of its port's queue; on failure it waits on.
  Result<std::shared_ptr<LinkEnd>> accept(Process& process);
  Link(Registry& registry, const std::shared_ptr<Port>& port, std::uint64_t protocol_version);
  ~Link() { registry_.links.erase(id); }

  /// This side has mapped its half: seals it and moves on. The second time it does nothing.
  /// peer_closed; denied when the owner prevented the seal: the link is then closed.
  Result<void> side_ready(SideIndex side);
  /// Tells both sides: closed bit, `closed` signal, doorbells. Once.
  void close();

  struct Side {
    LinkEnd* end = nullptr;  ///< null before accept and after its handle was closed
    Process* process = nullptr;
    std::uint64_t process_id = 0;
    Name process_name{};
    std::uint32_t index = 0;
    Charge charge;
    std::shared_ptr<Region> half;  ///< until the link closes
    bool ready() const { return !half->writable().valid(); }
    sys::Doorbell bell;  ///< rung by the other side and the kernel
  };
  const Side& side(SideIndex index) const { return sides_[index]; }
  State state() const { return state_; }
  /// Slots sent by `sender` that the other side has consumed, as that side says.
  std::uint64_t sent_slots(SideIndex sender) const;

  const std::uint64_t id;
  const Name port_name;
  const std::uint64_t protocol_version;

 private:
  friend class LinkEnd;
  Result<std::shared_ptr<LinkEnd>> occupy(SideIndex side, Process& process);
  void end_gone(SideIndex side);

  Registry& registry_;
  std::weak_ptr<Port> port_;
  State state_ = State::connecting;
  std::array<Side, 2> sides_;
};

/// One side of a link, as its handle names it. There is one handle, so this lives as long as it.
class LinkEnd final : public Object {
 public:
  static constexpr ObjectType object_type = ObjectType::link;
  /// Neither send nor duplicate: a link stays with its two processes.
  static constexpr std::uint32_t handle_rights = rights::info;

  LinkEnd(std::shared_ptr<Link> link, Link::SideIndex side)
      : Object(object_type, link->id, link->port_name), side(side), link_(std::move(link)) {}
  ~LinkEnd() override { link_->end_gone(side); }
  Link& link() const { return *link_; }
  const Link::Side& own() const { return link_->side(side); }
  const Link::Side& peer() const {
    return link_->side(side == Link::client ? Link::server : Link::client);
  }
  std::uint64_t detail() const override { return peer().process_id; }
  std::uint32_t standing_signals() const override {
    return link_->state() == Link::State::closed ? signal::closed : 0;
  }

  const Link::SideIndex side;

 private:
  std::shared_ptr<Link> link_;
};

}  // namespace aios::kernel
