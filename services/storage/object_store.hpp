// The store: named, immutable, checksummed objects that survive what was acknowledged.
//
// A put writes its bytes to blocks that nothing names, and becomes visible with its metadata
// transaction; what a crash interrupts leaves only free blocks behind. Everything is asynchronous:
// a call starts work, its Done runs inside the call or inside a later `advance`, on the one thread
// that uses the store. Time comes in as values.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "services/storage/background.hpp"
#include "services/storage/group_commit.hpp"
#include "services/storage/metadata.hpp"
#include "services/storage/space.hpp"
#include "services/storage/transfers.hpp"

namespace aios::storage {

/// Requests under way in the whole store.
inline constexpr std::size_t max_store_requests = 4096;
/// Rounds of one `advance`: long work lets the server's other clients in between.
inline constexpr int max_rounds = 4;
/// Of one `list`.
inline constexpr std::uint32_t max_listed = 4096;

struct Now {
  std::uint64_t monotonic_ns;
  std::uint64_t realtime_ns;
};

struct GetResult {
  std::uint64_t length_bytes;
  ObjectInfo info;
};

struct Listing {
  std::vector<ListedObject> objects;
  bool more;
};

struct StoreInfo {
  std::uint64_t objects;
  std::uint64_t stored_bytes;
  std::uint64_t free_bytes;  ///< of the file system
  std::uint64_t puts;        ///< acknowledged since start
  std::uint64_t flushes;     ///< batches since start
  std::string_view backend;
};

class ObjectStore {
 public:
  template <class T = void>
  using Done = std::function<void(Result<T>)>;
  /// Whose request it is; `cancel` names it.
  using Client = std::uint64_t;
  /// Keeps a client's memory mapped while a request uses it.
  using Keep = std::shared_ptr<const void>;

  struct Parts {
    std::unique_ptr<DiskIo> disk;
    std::unique_ptr<Metadata> metadata;
    std::unique_ptr<Background> background;
  };

  /// Rebuilds the free map. corrupt, no_memory, io_error.
  static Result<std::unique_ptr<ObjectStore>> create(Parts parts);
  /// Waits for what the disk has begun; no Done runs any more.
  ~ObjectStore();

  /// Stores `source`, which its owner may change meanwhile: what is stored then is some mixture
  /// with a matching checksum. no_space; io_error when the disk failed twice; source_changed when
  /// the disk failed once and the bytes are no longer the same; cancelled; busy when
  /// max_store_requests are under way. `key` has been checked.
  ///
  /// With an `operation`, here and below, the change is made once; see Operations. indeterminate;
  /// invalid_argument.
  void put(Client client, ObjectKey key, std::span<const std::byte> source, Keep keep, Now now,
           Done<ObjectInfo> done, std::optional<Operation> operation = {});

  /// Fills `destination` from byte `offset` on, as far as the object goes. Version 0 is the newest.
  /// not_found; source_changed when the newest has another version; corrupt, naming the block;
  /// io_error; cancelled; busy.
  void get(Client client, ObjectKey key, std::uint64_t version, std::uint64_t offset,
           std::span<std::byte> destination, Keep keep, Done<GetResult> done);

  /// not_found; corrupt; io_error; busy.
  void stat(ObjectKey key, Done<ObjectInfo> done);
  /// Objects below `prefix` with names after `after`. io_error; busy.
  void list(ObjectKey prefix, std::string after, std::uint32_t limit, Done<Listing> done);

  /// not_found; no_space; busy.
  void remove(ObjectKey key, Now now, Done<> done, std::optional<Operation> operation = {});
  void rename(ObjectKey from, std::string to, Now now, Done<> done,
              std::optional<Operation> operation = {});
  /// In slices of `remove_slice`, each at one moment; says how many went. no_space; busy.
  void remove_prefix(ObjectKey prefix, Now now, Done<std::uint64_t> done,
                     std::optional<Operation> operation = {});

  /// As of the last commit. Never fails: free_bytes is 0 when the host does not tell.
  void info(Done<StoreInfo> done);

  /// Ends the client's puts and gets soon with `cancelled`; a put that is already part of a batch
  /// stays.
  void cancel(Client client);

  /// Nothing is under way.
  bool idle() const { return requests_ == 0; }

  /// Does what can be done without waiting. Call it after requests, when the disk's or the
  /// background's poll_fd is readable, and at `deadline_ns`.
  void advance(Now now);
  std::optional<std::uint64_t> deadline_ns() const;

  /// Set when the process must end: nothing is answered any more.
  const std::optional<Status>& fatal() const { return commit_.fatal(); }

 private:
  struct Put;
  struct Get;
  using PutRef = std::list<Put>::iterator;
  using GetRef = std::list<Get>::iterator;

  explicit ObjectStore(Parts parts);

  template <class T>
  bool admit(Done<T>& done);
  void begin_put(PutRef put);
  void put_inline(PutRef put);
  bool start_waiting_puts();
  void start_writing(PutRef put, std::vector<Extent> extents);
  void written(PutRef put, Result<std::vector<std::uint64_t>> checksums);
  void commit_put(PutRef put);
  void committed(PutRef put, Result<> result, const PutChange& change);
  void rewrite_or_fail(PutRef put, Status status);
  void end_put(PutRef put, Result<ObjectInfo> result);
  void start_get(GetRef get);
  static Result<> copy_inline(const Object& object, std::uint64_t offset,
                              std::span<std::byte> destination);
  void end_get(GetRef get, Result<> result);
  void remove_next_slice(RemovePrefixChange slice, Done<std::uint64_t> done);

  std::unique_ptr<Metadata> metadata_;
  Space space_;
  GroupCommit commit_;
  std::unique_ptr<Transfers> transfers_;
  std::list<Put> puts_;
  std::list<PutRef> waiting_for_space_;
  std::list<Get> gets_;
  std::uint64_t next_version_ = 1;
  std::uint64_t acknowledged_puts_ = 0;
  std::size_t requests_ = 0;
  Now now_{};
  bool call_again_ = false;
  // Last, so that they end first: their threads and requests use what stands above.
  std::unique_ptr<DiskIo> disk_;
  std::unique_ptr<Background> background_;
};

}  // namespace aios::storage
