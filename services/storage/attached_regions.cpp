#include "services/storage/attached_regions.hpp"

#include <string>

#include "abi/runtime/handle_claims.hpp"
#include "abi/runtime/time.hpp"

namespace aios::storage {

/// A request that was made for a connection that is gone must not find another region under its
/// number: numbers go on, from another beginning in each life of the server.
AttachedRegions::AttachedRegions(Kernel& kernel)
    : kernel_(kernel), last_number_(static_cast<std::uint32_t>(now_ns()) * 2654435761u) {}

Result<std::uint32_t> AttachedRegions::attach(std::uint64_t client, Handle handle,
                                              std::uint64_t sender, bool writable) {
  if (in_use_->contains(handle)) return error(Code::bad_handle, "this region is attached already");
  TRY(received_handle(kernel_, handle, sender, {ObjectType::region}));
  Table& table = clients_[client];
  if (table.size() >= proto::storage::max_attached_regions) {
    kernel_.close(handle);
    return error(Code::quota, "64 regions are attached already; detach one first");
  }
  Region region = TRY(
      Region::map(kernel_, handle, writable ? Mapping::Access::read_write : Mapping::Access::read));
  in_use_->insert(handle);
  while (table.contains(++last_number_)) continue;
  table[last_number_] = std::shared_ptr<Attached>(new Attached{std::move(region), writable},
                                                  [in_use = in_use_](Attached* attached) {
                                                    in_use->erase(attached->region.handle());
                                                    delete attached;
                                                  });
  return last_number_;
}

Result<> AttachedRegions::detach(std::uint64_t client, std::uint64_t number) {
  const auto table = clients_.find(client);
  if (table == clients_.end() || number > UINT32_MAX)
    return error(Code::not_found, "no region " + std::to_string(number) + " is attached");
  const auto found = table->second.find(static_cast<std::uint32_t>(number));
  if (found == table->second.end())
    return error(Code::not_found, "no region " + std::to_string(number) + " is attached");
  if (found->second.use_count() != 1)
    return error(Code::busy, "a request uses region " + std::to_string(number));
  table->second.erase(found);
  return {};
}

Result<AttachedRegions::Range> AttachedRegions::range(std::uint64_t client, std::uint32_t number,
                                                      std::uint64_t offset, std::uint64_t length,
                                                      bool to_write) const {
  const auto table = clients_.find(client);
  if (table == clients_.end() || !table->second.contains(number))
    return error(Code::not_found, "no region " + std::to_string(number) + " is attached");
  const std::shared_ptr<Attached>& attached = table->second.at(number);
  if (to_write && !attached->writable)
    return error(Code::denied, "region " + std::to_string(number) + " is attached read-only");
  const std::span<std::byte> bytes = attached->region.bytes();
  if (length > bytes.size() || offset > bytes.size() - length)
    return error(Code::invalid_argument, "the range lies outside region " + std::to_string(number) +
                                             " of " + std::to_string(bytes.size()) + " bytes");
  return Range{bytes.subspan(offset, length), attached};
}

}  // namespace aios::storage
