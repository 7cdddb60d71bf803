// The oracle of storage. A worker has names of its own and knows of each what may stand there: one
// content when the last change was answered, two when nobody knows whether it was made. Contents
// tell themselves apart, so a get shows which it is; anything else is a breach: an acknowledged
// change that is lost, bytes of another put, half a put.
#include <aios/storage.h>

#include <array>
#include <cstring>
#include <optional>

#include "tests/fault/worker.hpp"

namespace aios::fault {

namespace {

constexpr std::size_t names = 32;
constexpr std::size_t max_object_bytes = 256u << 10;
constexpr std::size_t max_inline_bytes = 16u << 10;
constexpr Parts needed = bit(Part::storage);

/// Bytes that tell which put they belong to. Number 0 is no object at all.
struct Content {
  std::uint64_t number = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t version = 0;  ///< as it was acknowledged; 0: it was not
  bool same(const Content& other) const {
    return number == other.number && size_bytes == other.size_bytes;
  }
  std::string text() const {
    return number == 0
               ? "nothing"
               : "put " + std::to_string(number) + " of " + std::to_string(size_bytes) + " bytes";
  }
};

void fill(const Content& content, std::byte* to) {
  std::uint64_t word = content.number * 0x9e3779b97f4a7c15u + content.size_bytes;
  for (std::uint64_t at = 0; at < content.size_bytes; at += 8) {
    word ^= word << 13;
    word ^= word >> 7;
    word ^= word << 17;
    std::memcpy(to + at, &word, std::min<std::uint64_t>(8, content.size_bytes - at));
  }
}

class StorageWorker final : public Worker {
 public:
  StorageWorker(Ground& ground, unsigned number)
      : Worker(ground, "storage-" + std::to_string(number), needed, 0),
        prefix_("campaign/" + std::to_string(number) + "/"),
        never_spin_(number % 2 == 0) {
    bytes_.resize(max_object_bytes);
    wanted_.resize(max_object_bytes);
  }

 protected:
  void open() override {
    aios_attach_options options{};
    options.socket_path = ground_.socket.c_str();
    options.flags = never_spin_ ? AIOS_ATTACH_NEVER_SPIN : 0;
    if (aios_attach(&options, &instance_) != AIOS_OK ||
        aios_storage_open(instance_, &storage_) != AIOS_OK ||
        aios_region_create(instance_, max_object_bytes, "first", 0, &regions_[0]) != AIOS_OK ||
        aios_region_create(instance_, max_object_bytes, "second", 0, &regions_[1]) != AIOS_OK)
      breach(std::string("cannot begin: ") + aios_last_error());
  }

  void close() override {
    for (aios_region*& region : regions_) aios_region_close(std::exchange(region, nullptr));
    aios_storage_close(std::exchange(storage_, nullptr));
    aios_detach(std::exchange(instance_, nullptr));
  }

  void check_all() override {
    for (std::size_t i = 0; i < names; ++i) {
      all_[i].open_until_ns = 0;
      if (!settle(i)) return;
    }
    check_list();
  }

  void round() override {
    const std::size_t which = random_() % names;
    switch (random_() % 16) {
      case 0:
      case 1:
        return rename(which, random_() % names);
      case 2:
        return remove(which);
      case 3:
        return check_list();
      case 4:
      case 5:
      case 6:
      case 7:
        settle(which);
        return;
      default:
        return put(which);
    }
  }

 private:
  struct Name {
    Content now;                      ///< what stands there,
    std::optional<Content> maybe;     ///< or this, when that is not known
    std::uint64_t open_until_ns = 0;  ///< till then the change may still be made; 0: it is known
  };

  std::string name(std::size_t which) const { return prefix_ + std::to_string(which); }

  /// Whether it is known what stands there, or can be found out now.
  bool usable(std::size_t which) {
    Name& target = all_[which];
    if (target.open_until_ns == 0) return true;
    if (now_ns() < target.open_until_ns) return false;
    target.open_until_ns = 0;
    return settle(which);
  }

  void put(std::size_t which) {
    Name& target = all_[which];
    if (!usable(which)) return;
    const std::uint64_t size =
        1 + (random_() % 4 != 0 ? random_() % max_inline_bytes : random_() % max_object_bytes);
    Content content{++last_number_, std::min<std::uint64_t>(size, max_object_bytes), 0};
    const unsigned from = static_cast<unsigned>(random_() % 3);
    std::byte* data =
        from == 2 ? bytes_.data() : static_cast<std::byte*>(aios_region_data(regions_[from]));
    fill(content, data);
    aios_object_info info{};
    const std::string path = name(which);
    const aios_code code = call("put", needed, call_timeout_ns, [&](std::uint64_t timeout) {
      return from == 2 ? aios_storage_put(storage_, path.c_str(), data, content.size_bytes, timeout,
                                          &info)
                       : aios_storage_put_region(storage_, path.c_str(), regions_[from], 0,
                                                 content.size_bytes, timeout, &info);
    });
    if (code == AIOS_OK) {
      acknowledged(began_ns(), content.size_bytes);
      if (info.size_bytes != content.size_bytes) breach("put: acknowledged with another size");
      content.version = info.version;
      target.now = content;
      return;
    }
    changed(which, content, code);
  }

  void remove(std::size_t which) {
    Name& target = all_[which];
    if (!usable(which)) return;
    const std::string path = name(which);
    const bool there = target.now.number != 0;
    const aios_code code = call(
        "remove", needed, call_timeout_ns,
        [&](std::uint64_t timeout) { return aios_storage_remove(storage_, path.c_str(), timeout); },
        there ? 0 : codes({Code::not_found}));
    if (code == AIOS_NOT_FOUND && !there) return;
    if (code != AIOS_OK) return changed(which, {}, code);
    if (!there) return breach("remove: found " + path + ", which is not there");
    acknowledged(began_ns(), 0);
    target.now = {};
  }

  void rename(std::size_t from, std::size_t to) {
    if (from == to || !usable(from) || !usable(to)) return;
    const bool there = all_[from].now.number != 0;
    const std::string source = name(from);
    const std::string target = name(to);
    const aios_code code = call(
        "rename", needed, call_timeout_ns,
        [&](std::uint64_t timeout) {
          return aios_storage_rename(storage_, source.c_str(), target.c_str(), timeout);
        },
        there ? 0 : codes({Code::not_found}));
    if (code == AIOS_NOT_FOUND && !there) return;
    if (code == AIOS_OK) {
      if (!there) return breach("rename: found " + source + ", which is not there");
      acknowledged(began_ns(), 0);
      all_[to].now = std::exchange(all_[from].now, {});
      return;
    }
    if (!there) return;
    const Content moved = all_[from].now;
    const Content replaced = all_[to].now;
    changed(to, moved, code);
    changed(from, {}, code);
    if (all_[from].open_until_ns != 0 || ground_.breaches.any()) return;
    if (!all_[from].maybe && !all_[to].maybe &&
        all_[from].now.same(moved) != all_[to].now.same(replaced))
      breach("rename: half done: " + source + " has " + all_[from].now.text() + ", " + target +
             " has " + all_[to].now.text());
  }

  /// A change to `content` ended with `code`. Finds out at once whether it was made.
  void changed(std::size_t which, const Content& content, aios_code code) {
    Name& target = all_[which];
    switch (code) {
      case AIOS_NO_SPACE:
      case AIOS_QUOTA:
      case AIOS_NO_MEMORY:
        break;  // refused: nothing was done
      case AIOS_TIMED_OUT:
      case AIOS_INDETERMINATE:
        // Its request may still be on its way.
        target.maybe = content;
        target.open_until_ns = now_ns() + 3 * call_timeout_ns;
        return;
      default:
        target.maybe = content;
    }
    settle(which);
  }

  /// Gets it until it is there, or known not to be: each get may be hit by the next fault.
  bool settle(std::size_t which) {
    Name& target = all_[which];
    const std::string path = name(which);
    const Deadline end = Deadline::after(6 * call_timeout_ns);
    while (!end.passed() && !ground_.breaches.any()) {
      std::size_t length = 0;
      aios_object_info info{};
      const aios_code code = call(
          "get", needed, call_timeout_ns,
          [&](std::uint64_t timeout) { return get(path, timeout, length, info); },
          codes({Code::not_found}));
      if (code == AIOS_NOT_FOUND) return found(target, path, Content{}, info);
      if (code == AIOS_OK) return found(target, path, recognise(target, length), info);
    }
    if (!ground_.breaches.any()) breach("get: no answer in many tries for " + path);
    return false;
  }

  aios_code get(const std::string& path, std::uint64_t timeout, std::size_t& length,
                aios_object_info& info) {
    if (random_() % 2 == 0)
      return aios_storage_get(storage_, path.c_str(), 0, 0, bytes_.data(), bytes_.size(), timeout,
                              &length, &info);
    aios_region* region = regions_[random_() % 2];
    std::uint64_t bytes = 0;
    const aios_code code = aios_storage_get_region(storage_, path.c_str(), 0, 0, region, 0,
                                                   max_object_bytes, timeout, &bytes, &info);
    length = bytes;
    if (code == AIOS_OK) std::memcpy(bytes_.data(), aios_region_data(region), bytes);
    return code;
  }

  /// Which of the contents that may stand there the first `length` of `bytes_` are.
  std::optional<Content> recognise(const Name& target, std::size_t length) {
    for (const Content* one : {&target.now, target.maybe ? &*target.maybe : nullptr}) {
      if (one == nullptr || one->number == 0 || one->size_bytes != length) continue;
      fill(*one, wanted_.data());
      if (std::memcmp(wanted_.data(), bytes_.data(), length) == 0) return *one;
    }
    return std::nullopt;
  }

  bool found(Name& target, const std::string& path, std::optional<Content> content,
             const aios_object_info& info) {
    const bool allowed =
        content && (content->same(target.now) || (target.maybe && content->same(*target.maybe)));
    if (!allowed) {
      breach("get: " + path + " has " +
             (content ? content->text() : std::string("bytes of no put that may stand there")) +
             ", not " + target.now.text() +
             (target.maybe ? " or " + target.maybe->text() : std::string()));
      return false;
    }
    if (content->number != 0 && content->same(target.now) && target.now.version != 0 &&
        info.version != target.now.version) {
      breach("get: " + path + " has another version than the one acknowledged");
      return false;
    }
    if (content->number != 0) content->version = info.version;
    target.now = *content;
    if (target.open_until_ns == 0) target.maybe.reset();
    return true;
  }

  /// The names that are there, all and no others.
  void check_list() {
    std::array<aios_object_entry, names + 1> entries;
    std::size_t count = 0;
    int more = 0;
    const aios_code code = call("list", needed, call_timeout_ns, [&](std::uint64_t timeout) {
      return aios_storage_list(storage_, prefix_.c_str(), nullptr, entries.data(), entries.size(),
                               timeout, &count, &more);
    });
    if (code != AIOS_OK) return;
    std::array<bool, names> listed{};
    for (std::size_t i = 0; i < count; ++i) {
      const std::string tail = std::string(entries[i].name).substr(prefix_.size());
      const std::size_t which = std::strtoull(tail.c_str(), nullptr, 10);
      if (which >= names) return breach("list: a name that nobody put");
      listed[which] = true;
    }
    for (std::size_t i = 0; i < names; ++i) {
      if (all_[i].maybe || listed[i] == (all_[i].now.number != 0)) continue;
      return breach("list: " + name(i) + (listed[i] ? " is there" : " is not there"));
    }
  }

  std::string prefix_;
  bool never_spin_;
  aios_storage* storage_ = nullptr;
  std::array<aios_region*, 2> regions_{};
  std::array<Name, names> all_;
  std::uint64_t last_number_ = 0;
  std::vector<std::byte> bytes_;
  std::vector<std::byte> wanted_;
};

}  // namespace

std::unique_ptr<Worker> make_storage_worker(Ground& ground, unsigned number) {
  return std::make_unique<StorageWorker>(ground, number);
}

}  // namespace aios::fault
