// Corruption of shared memory by one side of a link, and of a region during a put.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "abi/lib/storage_client.hpp"
#include "abi/proto/link.hpp"
#include "tests/fault/injector.hpp"

namespace aios::fault {

namespace {

/// How long the other side has to notice.
constexpr std::uint64_t notice_ns = 30 * ns_per_ms;

struct Half {
  std::uint64_t address;
  std::uint64_t inode;
  bool writable;
};

/// The halves of links that a process has mapped.
std::vector<Half> halves_of(const std::string& pid) {
  std::vector<Half> found;
  std::ifstream maps("/proc/" + pid + "/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:aios-region") == std::string::npos) continue;
    std::istringstream words(line);
    std::string range, rights, offset, device;
    std::uint64_t inode = 0;
    words >> range >> rights >> offset >> device >> inode;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    const char* dash = std::from_chars(range.data(), range.data() + range.size(), begin, 16).ptr;
    std::from_chars(dash + 1, range.data() + range.size(), end, 16);
    // Nothing else in this program has that size.
    if (end - begin == proto::half_bytes) found.push_back({begin, inode, rights[1] == 'w'});
  }
  return found;
}

bool still_mapped(std::uint64_t inode) {
  for (const Half& half : halves_of("self"))
    if (half.inode == inode) return true;
  return false;
}

/// Every sequence of the ring becomes nonsense: no lap of any link reaches such numbers.
bool write_nonsense(const std::string& pid, std::uint64_t address, std::uint64_t salt) {
  const Fd memory(::open(("/proc/" + pid + "/mem").c_str(), O_WRONLY | O_CLOEXEC));
  if (!memory.valid()) return false;
  for (std::uint32_t slot = 0; slot < proto::slot_count; ++slot) {
    const std::uint64_t word = (salt ^ slot) | 1ull << 63;
    const std::uint64_t at = address + proto::page_bytes + slot * sizeof(proto::Slot);
    if (::pwrite(memory.get(), &word, sizeof word, static_cast<off_t>(at)) != sizeof word)
      return false;
  }
  return true;
}

}  // namespace

/// Requests: the ring that a client of ours writes, changed under it, as by a client with a wild
/// pointer. Replies: the same in a server. The one who reads it must end the link; the calls on it
/// then answer peer_closed, and the next ones are made over a new link.
Outcome corrupt_ring(Scene& scene, bool replies) {
  const Part part = static_cast<Part>(scene.below(static_cast<std::uint64_t>(Part::contexts)));
  if (part == Part::cpu) return Outcome::none;  // nobody here calls it
  const auto server = scene.system.server(name_of(part));
  if (!server) return Outcome::none;
  const std::string pid = std::to_string(server->pid);
  std::map<std::uint64_t, Half> theirs;
  for (const Half& half : halves_of(pid))
    if (half.writable == replies) theirs.emplace(half.inode, half);
  std::vector<Half> common;  // where it is written
  for (const Half& half : halves_of("self"))
    if (half.writable != replies && theirs.contains(half.inode))
      common.push_back(replies ? theirs.at(half.inode) : half);
  if (common.empty()) return Outcome::none;
  const Half chosen = common[scene.below(common.size())];
  std::erase_if(scene.latent, [](const auto& one) { return !still_mapped(one.first); });
  auto disturbance = std::make_unique<Disturbance>(scene.ground.disturbances, bit(part), death);
  if (!write_nonsense(replies ? pid : "self", chosen.address, scene.random())) return Outcome::none;
  const Deadline end = Deadline::after(notice_ns);
  while (still_mapped(chosen.inode)) {
    if (end.passed()) {
      // Whoever uses that link some time will still find it.
      scene.latent.emplace_back(chosen.inode, std::move(disturbance));
      return Outcome::injected;
    }
    ::usleep(200);
  }
  return Outcome::activated;
}

/// A put from a region that a second thread changes all along. It is stored as it was at some
/// moments, or refused; what is stored verifies.
Outcome corrupt_region(Scene& scene) {
  const Judged judged(scene.ground.disturbances, bit(Part::storage), call_timeout_ns);
  const auto run = [&]() -> Result<bool> {
    const auto visitor = TRY(scene.system.instance().attach());
    StorageClient storage(TRY(visitor->client<proto::storage::Protocol>()));
    constexpr std::uint64_t bytes = 100'000;
    const Region region = TRY(Region::create(visitor->kernel(), 2 * bytes, "changing"));
    std::atomic<bool> stopping{false};
    std::atomic<std::uint64_t> changes{0};
    std::thread mutator([&, random = scene.random()]() mutable {
      while (!stopping) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        region.data()[(random >> 33) % bytes] = static_cast<std::byte>(random >> 25);
        // Not all along: it would take the core from the put.
        if (++changes % 256 == 0) ::usleep(20);
      }
    });
    while (changes == 0) std::this_thread::yield();
    const std::uint64_t before = changes;
    const Deadline deadline = Deadline::after(call_timeout_ns);
    const auto put = storage.put("campaign/changing", {region, true, 0, bytes}, deadline);
    const bool changed = changes > before;
    stopping = true;
    mutator.join();
    if (!put && put.error().code() == Code::source_changed) return changed;
    TRY(put);
    const auto got = TRY(
        storage.get("campaign/changing", 0, put->version, {region, true, bytes, bytes}, deadline));
    if (got.length != bytes || got.info.checksum != put->checksum)
      scene.breach("a put whose region changed: another object than the one acknowledged");
    return changed;
  };
  const auto changed = run();
  if (changed) return *changed ? Outcome::activated : Outcome::injected;
  if (!judged.excuses(changed.error().code()))
    scene.breach("a put whose region changed: " + changed.error().to_string());
  return Outcome::none;
}

}  // namespace aios::fault
