// Blocking calls to aios-storage, with one region of memory for the bytes of objects.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "abi/proto/storage.hpp"
#include "abi/runtime/client.hpp"
#include "abi/runtime/kernel.hpp"

namespace aios::ctl {

/// Errors are those of the protocol, and those of Client::call. After the server was restarted the
/// next call lends it the memory again.
class StorageClient {
 public:
  using ObjectInfo = proto::storage::ObjectInfo;
  using ListEntry = proto::storage::ListEntry;

  /// How long a call may take that moves data; others have `call_timeout_ns`.
  static constexpr std::uint64_t transfer_timeout_ns = 600 * ns_per_s;

  /// Memory of at least `buffer_bytes`. `kernel` outlives it. quota; no_memory.
  static Result<StorageClient> create(Kernel& kernel, std::unique_ptr<Client> client,
                                      std::uint64_t buffer_bytes);

  /// What puts read and gets fill.
  std::span<std::byte> buffer() const { return buffer_.bytes(); }

  /// Stores the first `length` bytes of the buffer.
  Result<ObjectInfo> put(const std::string& name, std::uint64_t length);
  /// Fills the buffer from byte `offset` of the object on.
  Result<proto::storage::Get::Reply> get(const std::string& name, std::uint64_t offset,
                                         std::uint64_t version);
  /// The next objects in name order, through the buffer; `more` tells whether there are others.
  Result<std::vector<ListEntry>> list(const std::string& prefix, const std::string& after,
                                      bool& more);
  Result<ObjectInfo> stat(const std::string& name);
  Result<> remove(const std::string& name);
  Result<> rename(const std::string& from, const std::string& to);
  Result<std::uint64_t> remove_prefix(const std::string& prefix);
  Result<proto::storage::Info::Reply> info();

 private:
  StorageClient(std::unique_ptr<Client> client, Region buffer)
      : client_(std::move(client)), buffer_(std::move(buffer)) {}
  Result<std::uint32_t> attached();

  std::unique_ptr<Client> client_;
  Region buffer_;
  /// The buffer's number at the server; none while it has to be lent (again).
  std::shared_ptr<std::optional<std::uint32_t>> number_ =
      std::make_shared<std::optional<std::uint32_t>>();
};

}  // namespace aios::ctl
