// The storage protocol: named, immutable, checksummed objects.
//
// Names look like paths: 1 to 199 bytes, components separated by single '/', none empty, "." or
// "..", no NUL and no control bytes. A client sees the namespace of its own uid; a server of AIOS
// that of its own name. A handle to the client's region comes first (`attach_region`); requests
// then name (region, offset, length) within it. Bulk data never rides in messages.
//
// Everything acknowledged survives the death of the server at any moment.
#pragma once

#include "abi/proto/kernel.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::storage {

using ObjectName = Text<200>;
inline constexpr std::uint64_t max_object_bytes = 1ull << 40;
inline constexpr std::uint32_t block_bytes = 64u << 10;  ///< unit of checksums
inline constexpr std::uint32_t max_attached_regions = 64;

/// Names a change, so that it happens once however often it is asked for: who never saw the answer
/// asks again under the same name and gets that answer. (session, sequence) is the client's own,
/// and must not be used for another change. An answer is kept until the client acknowledges it, and
/// at least ten minutes unless the user has more than 256 sessions; a change that was asked for
/// again and may have been forgotten is answered `indeterminate`.
struct Operation {
  std::uint64_t session;       ///< random; 0, with all else 0: asking again changes again
  std::uint64_t sequence;      ///< grows with each change of the session
  std::uint64_t acknowledged;  ///< the answers up to this one have been seen; at most 1024 behind
  std::uint64_t age_ns;        ///< since it was asked for first; 0: now
  AIOS_FIELDS(Operation, session, sequence, acknowledged, age_ns)
};
inline constexpr std::uint64_t max_unacknowledged = 1024;

/// `region` (map_read, and map_write if gets are to fill it) is moved over this link. Its number is
/// no other region's for long, also when the server is restarted: a request with the number of a
/// former connection is not_found. quota.
struct AttachRegion {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "attach_region";
  struct Request {
    kernel::Handle region;
    std::uint64_t writable;
    AIOS_FIELDS(Request, region, writable)
  };
  struct Reply {
    std::uint32_t region;
    std::uint32_t reserved;
    AIOS_FIELDS(Reply, region, reserved)
  };
};

/// busy while a request uses it.
struct DetachRegion {
  static constexpr std::uint16_t opcode = 2;
  static constexpr const char* name = "detach_region";
  struct Request {
    std::uint64_t region;
    AIOS_FIELDS(Request, region)
  };
  using Reply = Empty;
};

struct ObjectInfo {
  std::uint64_t size_bytes;
  std::uint64_t version;     ///< grows with every put of the store
  std::uint64_t created_ns;  ///< CLOCK_REALTIME
  std::uint64_t checksum;    ///< XXH3-64 over the block checksums
  AIOS_FIELDS(ObjectInfo, size_bytes, version, created_ns, checksum)
};

/// Stores the bytes at (offset, length) of `region` as `name`, replacing what was there at one
/// moment. Answered when the object would survive a crash of the machine (group commit).
/// no_space; too_large; invalid_argument for the name or range; source_changed when the region's
/// bytes changed while they were read.
struct Put {
  static constexpr std::uint16_t opcode = 3;
  static constexpr const char* name = "put";
  struct Request {
    std::uint64_t offset;
    std::uint64_t length;
    std::uint32_t region;
    std::uint32_t reserved;
    ObjectName object;
    Operation operation{};
    AIOS_FIELDS(Request, offset, length, region, reserved, object, operation)
  };
  using Reply = ObjectInfo;
};

/// Fills (offset, at most `length`) of `region` with the object's bytes from `object_offset` on.
/// Every block is verified before the reply. `version` 0 means the newest; otherwise source_changed
/// when the newest is another. not_found; corrupt, naming the block.
struct Get {
  static constexpr std::uint16_t opcode = 4;
  static constexpr const char* name = "get";
  struct Request {
    std::uint64_t offset;
    std::uint64_t length;
    std::uint64_t object_offset;
    std::uint64_t version;
    std::uint32_t region;
    std::uint32_t reserved;
    ObjectName object;
    AIOS_FIELDS(Request, offset, length, object_offset, version, region, reserved, object)
  };
  struct Reply {
    std::uint64_t length;  ///< bytes filled
    ObjectInfo info;
    AIOS_FIELDS(Reply, length, info)
  };
};

/// not_found.
struct Stat {
  static constexpr std::uint16_t opcode = 5;
  static constexpr const char* name = "stat";
  static constexpr bool idempotent = true;
  struct Request {
    ObjectName object;
    AIOS_FIELDS(Request, object)
  };
  using Reply = ObjectInfo;
};

/// Objects whose name begins with `prefix` (may be empty) and is greater than `after`, in name
/// order, written as ListEntry records to (offset, length) of `region`, as many as fit.
struct List {
  static constexpr std::uint16_t opcode = 6;
  static constexpr const char* name = "list";
  struct Request {
    std::uint64_t offset;
    std::uint64_t length;
    std::uint32_t region;
    std::uint32_t reserved;
    ObjectName prefix;
    ObjectName after;
    AIOS_FIELDS(Request, offset, length, region, reserved, prefix, after)
  };
  struct Reply {
    std::uint64_t count;
    std::uint64_t more;  ///< 1: ask again after the last name
    AIOS_FIELDS(Reply, count, more)
  };
};
struct ListEntry {
  ObjectInfo info;
  ObjectName object;
  AIOS_FIELDS(ListEntry, info, object)
};

/// not_found.
struct Remove {
  static constexpr std::uint16_t opcode = 7;
  static constexpr const char* name = "remove";
  struct Request {
    ObjectName object;
    Operation operation{};
    AIOS_FIELDS(Request, object, operation)
  };
  using Reply = Empty;
};

/// Replaces `to` if it is there, at one moment. not_found.
struct Rename {
  static constexpr std::uint16_t opcode = 8;
  static constexpr const char* name = "rename";
  struct Request {
    ObjectName from;
    ObjectName to;
    Operation operation{};
    AIOS_FIELDS(Request, from, to, operation)
  };
  using Reply = Empty;
};

/// Removes every object whose name begins with `prefix`, which must end in '/'; says how many.
struct RemovePrefix {
  static constexpr std::uint16_t opcode = 9;
  static constexpr const char* name = "remove_prefix";
  struct Request {
    ObjectName prefix;
    Operation operation{};
    AIOS_FIELDS(Request, prefix, operation)
  };
  struct Reply {
    std::uint64_t count;
    AIOS_FIELDS(Reply, count)
  };
};

/// The store as a whole.
struct Info {
  static constexpr std::uint16_t opcode = 10;
  static constexpr const char* name = "info";
  static constexpr bool idempotent = true;
  using Request = Empty;
  struct Reply {
    std::uint64_t objects;
    std::uint64_t stored_bytes;
    std::uint64_t free_bytes;  ///< of the file system
    std::uint64_t puts;
    std::uint64_t flushes;
    Text<16> backend;  ///< "io_uring" or "threads"
    AIOS_FIELDS(Reply, objects, stored_bytes, free_bytes, puts, flushes, backend)
  };
};

struct Protocol {
  static constexpr const char* name = "storage";
  static constexpr std::uint16_t version = 3;
  using Methods = MethodList<Null, Drain, AttachRegion, DetachRegion, Put, Get, Stat, List, Remove,
                             Rename, RemovePrefix, Info>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

}  // namespace aios::proto::storage
