// Moves objects between clients' memory and extents of the data file, through private buffers.
//
// A client may change its bytes at any moment. So a put copies each block once into a private
// buffer, and checksums and writes that copy; a get reads and verifies in the buffer, and only good
// blocks are copied to the client.
#pragma once

#include <cstdlib>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "services/storage/disk_io.hpp"
#include "services/storage/extents.hpp"

namespace aios::storage {

/// One read or write of the disk, and the unit in which transfers take turns.
inline constexpr std::uint64_t chunk_blocks = 4;
inline constexpr std::size_t chunk_bytes = chunk_blocks * block_bytes;
/// All private buffers there are.
inline constexpr std::size_t chunk_count = 32;
/// Leaves buffers to others.
inline constexpr std::size_t max_chunks_per_transfer = 8;
static_assert(chunk_count + 2 <= DiskIo::max_in_flight, "chunks, one flush and one grow");

struct WriteTransfer {
  std::uint64_t version;
  std::vector<Extent> extents;  ///< exactly as many blocks as `source` needs
  std::span<const std::byte> source;
};

struct ReadTransfer {
  std::uint64_t version;
  std::uint64_t size_bytes;  ///< of the object
  std::vector<Extent> extents;
  std::vector<std::uint64_t> checksums;
  std::uint64_t offset;  ///< in the object; `destination` lies within the object
  std::span<std::byte> destination;
};

class Transfers {
 public:
  using Id = std::uint64_t;
  /// The checksums of all blocks. no_space or io_error, and nothing is known of the extents;
  /// cancelled.
  using WriteDone = std::function<void(Result<std::vector<std::uint64_t>>)>;
  /// corrupt, naming the block; io_error; cancelled.
  using ReadDone = std::function<void(Result<>)>;

  /// `disk` outlives it. no_memory.
  static Result<std::unique_ptr<Transfers>> create(DiskIo& disk);
  ~Transfers();

  /// The memory stays mapped until `done` ran, which happens inside `pump`.
  Id start(WriteTransfer write, WriteDone done);
  Id start(ReadTransfer read, ReadDone done);
  /// Stops it soon; its `done` runs with `cancelled` when no disk request uses its memory.
  void cancel(Id id);

  /// Gives free buffers to the transfers in turn and runs the Dones of those that ended. True when
  /// any did.
  bool pump();

  std::size_t active_writes() const { return active_writes_; }

 private:
  struct Transfer;
  struct Chunk;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  explicit Transfers(DiskIo& disk);

  Id add(Transfer transfer);
  void start_chunk(Transfer& transfer);
  void move(Transfer& transfer, Chunk& chunk);
  void moved(Transfer& transfer, Chunk& chunk, std::int64_t result);
  void fill(Transfer& transfer, const Chunk& chunk);
  Result<> deliver(Transfer& transfer, const Chunk& chunk);

  DiskIo& disk_;
  std::unique_ptr<std::byte, Free> memory_;
  std::vector<Chunk> chunks_;
  std::vector<Chunk*> free_;
  std::list<Transfer> transfers_;
  std::size_t active_writes_ = 0;
  Id next_id_ = 1;
};

}  // namespace aios::storage
