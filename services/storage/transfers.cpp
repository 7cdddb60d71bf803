#include "services/storage/transfers.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <string>
#include <variant>

#include "services/storage/checksums.hpp"

namespace aios::storage {
namespace {

constexpr std::size_t page_alignment = 4096;

/// Walks an object's blocks in pieces that each lie within one extent and one chunk.
class Cursor {
 public:
  Cursor(const std::vector<Extent>& extents, std::uint64_t first, std::uint64_t end)
      : extents_(extents), block_(first), end_(end), within_(first) {
    settle();
  }
  struct Piece {
    std::uint64_t block;       // of the object
    std::uint64_t disk_block;  // of the data file
    std::uint64_t blocks;
  };
  bool at_end() const { return block_ == end_; }
  Piece next() {
    const Extent& extent = extents_[index_];
    const Piece piece{block_, extent.start + within_,
                      std::min({chunk_blocks, extent.blocks - within_, end_ - block_})};
    block_ += piece.blocks;
    within_ += piece.blocks;
    settle();
    return piece;
  }

 private:
  void settle() {
    while (index_ < extents_.size() && within_ >= extents_[index_].blocks)
      within_ -= extents_[index_++].blocks;
  }
  std::vector<Extent> extents_;
  std::uint64_t block_;
  std::uint64_t end_;
  std::uint64_t within_;  // blocks into extents_[index_]
  std::size_t index_ = 0;
};

std::string block_text(std::uint64_t block) {
  return "block " + std::to_string(block);
}

}  // namespace

struct Transfers::Chunk {
  std::span<std::byte> memory;
  Cursor::Piece piece;
  std::size_t length;  // bytes to move
  std::size_t done;    // bytes moved
};

struct Transfers::Transfer {
  Id id;
  std::uint64_t version;
  std::uint64_t size_bytes;
  Cursor cursor;
  std::vector<std::uint64_t> checksums;
  std::variant<std::span<const std::byte>, std::span<std::byte>> memory;
  std::uint64_t offset;  // of a read's first byte in the object
  WriteDone write_done;
  ReadDone read_done;
  std::size_t in_flight = 0;
  std::optional<Status> failed;

  bool is_write() const { return write_done != nullptr; }
  bool wants_chunk() const {
    return !failed && !cursor.at_end() && in_flight < max_chunks_per_transfer;
  }
  bool ended() const { return in_flight == 0 && (failed || cursor.at_end()); }
  std::size_t bytes_of(const Cursor::Piece& piece) const {
    const std::uint64_t first = piece.block * block_bytes;
    return std::min(piece.blocks * block_bytes, size_bytes - first);
  }
  void end() {
    if (is_write())
      failed ? write_done(std::unexpected(*failed)) : write_done(std::move(checksums));
    else
      failed ? read_done(std::unexpected(*failed)) : read_done({});
  }
};

Result<std::unique_ptr<Transfers>> Transfers::create(DiskIo& disk) {
  std::unique_ptr<Transfers> out(new Transfers(disk));
  constexpr std::size_t bytes = chunk_bytes * chunk_count;
  out->memory_.reset(static_cast<std::byte*>(std::aligned_alloc(page_alignment, bytes)));
  if (out->memory_ == nullptr) return error(Code::no_memory, "no memory for the disk buffers");
  out->chunks_.resize(chunk_count);
  for (std::size_t i = 0; i < chunk_count; ++i) {
    out->chunks_[i].memory = {out->memory_.get() + i * chunk_bytes, chunk_bytes};
    out->free_.push_back(&out->chunks_[i]);
  }
  return out;
}

Transfers::Transfers(DiskIo& disk) : disk_(disk) {}
Transfers::~Transfers() = default;

Transfers::Id Transfers::start(WriteTransfer write, WriteDone done) {
  const std::uint64_t blocks = blocks_for(write.source.size());
  ++active_writes_;
  return add({.version = write.version,
              .size_bytes = write.source.size(),
              .cursor = Cursor(write.extents, 0, blocks),
              .checksums = std::vector<std::uint64_t>(blocks),
              .memory = write.source,
              .write_done = std::move(done)});
}

Transfers::Id Transfers::start(ReadTransfer read, ReadDone done) {
  assert(read.offset + read.destination.size() <= read.size_bytes);
  const std::uint64_t end = blocks_for(read.offset + read.destination.size());
  const std::uint64_t first = std::min(read.offset / block_bytes, end);
  return add({.version = read.version,
              .size_bytes = read.size_bytes,
              .cursor = Cursor(read.extents, first, end),
              .checksums = std::move(read.checksums),
              .memory = read.destination,
              .offset = read.offset,
              .read_done = std::move(done)});
}

Transfers::Id Transfers::add(Transfer transfer) {
  transfer.id = next_id_++;
  return transfers_.emplace_back(std::move(transfer)).id;
}

void Transfers::cancel(Id id) {
  for (Transfer& transfer : transfers_)
    if (transfer.id == id && !transfer.failed)
      transfer.failed = Status(Code::cancelled, "the client is gone");
}

bool Transfers::pump() {
  while (!free_.empty()) {
    const auto next = std::find_if(transfers_.begin(), transfers_.end(),
                                   [](const Transfer& one) { return one.wants_chunk(); });
    if (next == transfers_.end()) break;
    start_chunk(*next);
    transfers_.splice(transfers_.end(), transfers_, next);
  }
  // A Done may start another transfer: take the ended ones out first.
  std::list<Transfer> ended;
  for (auto it = transfers_.begin(); it != transfers_.end();) {
    const auto current = it++;
    if (current->ended()) ended.splice(ended.end(), transfers_, current);
  }
  for (Transfer& transfer : ended) {
    if (transfer.is_write()) --active_writes_;
    transfer.end();
  }
  return !ended.empty();
}

void Transfers::start_chunk(Transfer& transfer) {
  Chunk& chunk = *free_.back();
  free_.pop_back();
  chunk.piece = transfer.cursor.next();
  chunk.length = transfer.bytes_of(chunk.piece);
  chunk.done = 0;
  ++transfer.in_flight;
  if (transfer.is_write()) fill(transfer, chunk);
  move(transfer, chunk);
}

void Transfers::fill(Transfer& transfer, const Chunk& chunk) {
  const auto source = std::get<std::span<const std::byte>>(transfer.memory);
  const std::span<std::byte> copy = chunk.memory.first(chunk.length);
  std::memcpy(copy.data(), source.data() + chunk.piece.block * block_bytes, copy.size());
  for (std::uint64_t i = 0; i < chunk.piece.blocks; ++i) {
    const std::size_t at = i * block_bytes;
    const std::uint64_t block = chunk.piece.block + i;
    transfer.checksums[block] =
        block_checksum(transfer.version, block,
                       copy.subspan(at, std::min<std::size_t>(block_bytes, copy.size() - at)));
  }
}

void Transfers::move(Transfer& transfer, Chunk& chunk) {
  const std::uint64_t offset = chunk.piece.disk_block * block_bytes + chunk.done;
  const auto rest = chunk.memory.subspan(chunk.done, chunk.length - chunk.done);
  // List elements and chunks stay where they are until the request ends.
  auto done = [this, &transfer, &chunk](std::int64_t result) { moved(transfer, chunk, result); };
  if (transfer.is_write())
    disk_.write(offset, rest, std::move(done));
  else
    disk_.read(offset, rest, std::move(done));
}

void Transfers::moved(Transfer& transfer, Chunk& chunk, std::int64_t result) {
  const std::string what = block_text(chunk.piece.block);
  std::optional<Status> failed;
  if (result > 0) {
    chunk.done += static_cast<std::size_t>(result);
    if (chunk.done < chunk.length && !transfer.failed) return move(transfer, chunk);
    if (!transfer.is_write() && !transfer.failed)
      if (Result<> good = deliver(transfer, chunk); !good) failed = good.error();
  } else if (result == -ENOSPC || result == -EDQUOT) {
    failed = Status(Code::no_space, "the disk is full");
  } else if (result == 0 && !transfer.is_write()) {
    failed = Status(Code::corrupt, what + " is missing: the data file is too short");
  } else {
    failed = Status(Code::io_error, std::string(transfer.is_write() ? "writing " : "reading ") +
                                        what + ": " + std::strerror(static_cast<int>(-result)));
  }
  if (failed && !transfer.failed) transfer.failed = std::move(failed);
  --transfer.in_flight;
  free_.push_back(&chunk);
}

Result<> Transfers::deliver(Transfer& transfer, const Chunk& chunk) {
  const auto destination = std::get<std::span<std::byte>>(transfer.memory);
  const std::uint64_t wanted_end = transfer.offset + destination.size();
  for (std::uint64_t i = 0; i < chunk.piece.blocks; ++i) {
    const std::uint64_t block = chunk.piece.block + i;
    const std::size_t at = i * block_bytes;
    const auto bytes =
        chunk.memory.subspan(at, std::min<std::size_t>(block_bytes, chunk.length - at));
    if (block_checksum(transfer.version, block, bytes) != transfer.checksums[block])
      return error(Code::corrupt, block_text(block) + " does not match its checksum");
    const std::uint64_t start = block * block_bytes;
    const std::uint64_t from = std::max(start, transfer.offset);
    const std::uint64_t end = std::min(start + bytes.size(), wanted_end);
    std::memcpy(destination.data() + (from - transfer.offset), bytes.data() + (from - start),
                end - from);
  }
  return {};
}

}  // namespace aios::storage
