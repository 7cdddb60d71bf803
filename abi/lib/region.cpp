// Memory.
#include "abi/lib/failure.hpp"
#include "abi/lib/objects.hpp"
#include "abi/runtime/handle_claims.hpp"

namespace aios::lib {

namespace {
constexpr std::uint32_t always = rights::info | rights::send | rights::duplicate;
}

Result<std::uint32_t> rights_of(std::uint32_t access) {
  if (access == 0 || (access & ~(AIOS_GRANT_READ | AIOS_GRANT_WRITE)) != 0)
    return error(Code::invalid_argument, "access is AIOS_GRANT_READ, AIOS_GRANT_WRITE or both");
  const bool write = (access & AIOS_GRANT_WRITE) != 0;
  return always | rights::map_read | (write ? rights::map_write : 0);
}

Result<proto::kernel::LinkSend::Entry> grant_entry(const aios_region& region,
                                                   std::uint32_t access) {
  const std::uint32_t mask = TRY(rights_of(access));
  if ((mask & rights::map_write) != 0 && !region.writable)
    return error(Code::denied, "the region is read-only here; it cannot be granted for writing");
  return proto::kernel::LinkSend::Entry{
      region.region.handle(), static_cast<std::uint32_t>(ObjectType::region), mask, mask, 0};
}

Result<Handle> granted(Result<std::vector<Handle>> sent) {
  if (sent) return sent->front();
  std::string text = sent.error().message();
  if (sent.error().code() == Code::quota)
    text +=
        "; grant a region once and name its number in every request, or end the connection, which "
        "gives up the grants that were not received";
  return error(sent.error().code(), text);
}

Result<aios_region*> receive_region(const std::shared_ptr<Core>& core, Handle handle,
                                    std::uint64_t sender, std::uint32_t access) {
  const std::uint32_t needed = TRY(rights_of(access));
  const auto info = TRY(received_handle(core->kernel(), handle, sender, {ObjectType::region}));
  if ((info.use & needed & ~always) != (needed & ~always))
    return error(Code::denied, "the region was not granted with this access");
  if (!core->claim(handle))
    return error(Code::bad_handle, "the region was received before; it is granted once a time");
  const bool write = (needed & rights::map_write) != 0;
  auto mapped = Region::map(core->kernel(), handle,
                            write ? Mapping::Access::read_write : Mapping::Access::read);
  if (!mapped) {
    core->unclaim(handle);
    return std::unexpected(mapped.error());
  }
  auto region = std::make_unique<aios_region>(core, *std::move(mapped), write);
  region->claimed = handle;
  return region.release();
}

namespace {

Result<aios_region*> open_kept(const std::shared_ptr<Core>& core, const char* label,
                               std::uint32_t access) {
  const std::uint32_t use = TRY(rights_of(access));
  const auto kept = core->kernel().startup(label);
  if (!kept)
    return error(Code::not_found, "the job kept nothing under '" + std::string(label) +
                                      "' when this program attached");
  if (kept->type != ObjectType::region)
    return error(Code::wrong_type, "'" + std::string(label) + "' is no region");
  const Handle own = TRY(core->kernel().duplicate(kept->handle, use, kept->grant & use));
  const bool write = (use & rights::map_write) != 0;
  auto mapped = TRY(Region::map(core->kernel(), own,
                                write ? Mapping::Access::read_write : Mapping::Access::read));
  return new aios_region(core, std::move(mapped), write);
}

Result<RegionOptions> options_of(std::uint32_t flags) {
  using HugePages = RegionOptions::HugePages;
  constexpr std::uint32_t node_bits = 0xff00;
  constexpr std::uint32_t known = AIOS_REGION_FREEZABLE | AIOS_REGION_HUGE_PAGES |
                                  AIOS_REGION_HUGE_PAGES_ONLY | AIOS_REGION_SPREAD | node_bits;
  if ((flags & ~known) != 0)
    return error(Code::invalid_argument, "a region's flags are those of aios.h");
  RegionOptions options{.freezable = (flags & AIOS_REGION_FREEZABLE) != 0};
  if ((flags & AIOS_REGION_HUGE_PAGES) != 0) options.huge_pages = HugePages::where_possible;
  if ((flags & AIOS_REGION_HUGE_PAGES_ONLY) != 0) options.huge_pages = HugePages::only;
  const std::uint32_t node = (flags & node_bits) >> 8;  // from 1
  const bool spread = (flags & AIOS_REGION_SPREAD) != 0;
  if (node > max_numa_nodes || (node != 0 && spread))
    return error(Code::invalid_argument,
                 "a region lies on one NUMA node from 0 to 63, or is spread over all");
  if (spread) options.nodes = all_numa_nodes;
  if (node != 0) options.nodes = NumaNodes{1} << (node - 1);
  return options;
}

}  // namespace

}  // namespace aios::lib

using namespace aios;
using namespace aios::lib;

aios_code aios_region_create(aios_instance* instance, std::uint64_t size_bytes, const char* name,
                             std::uint32_t flags, aios_region** region) {
  if (instance == nullptr || region == nullptr) return null_argument("aios_region_create");
  return guarded([&]() -> Result<void> {
    TRY(instance->core->check_process());
    if (size_bytes == 0) return error(Code::invalid_argument, "a region has at least one byte");
    const RegionOptions options = TRY(options_of(flags));
    auto made = TRY(
        Region::create(instance->core->kernel(), size_bytes, name != nullptr ? name : "", options));
    *region = new aios_region(instance->core, std::move(made), true);
    return {};
  });
}

void aios_region_close(aios_region* region) {
  const Uncancelled until_end;
  if (region != nullptr && !region->core->foreign()) delete region;
}

void* aios_region_data(const aios_region* region) {
  return region != nullptr ? region->region.data() : nullptr;
}

std::uint64_t aios_region_size(const aios_region* region) {
  return region != nullptr ? region->region.size() : 0;
}

int aios_region_is_writable(const aios_region* region) {
  return region != nullptr && region->writable ? 1 : 0;
}

aios_code aios_region_freeze(aios_region* region) {
  if (region == nullptr) return null_argument("aios_region_freeze");
  const aios_code code = guarded([&]() -> Result<void> {
    TRY(region->core->check_process());
    return region->region.freeze();
  });
  // Whatever came of it, and where there was no memory to say so.
  if (region->region.access() == Mapping::Access::read) region->writable = false;
  return code;
}

aios_code aios_region_is_frozen(const aios_region* region, int* frozen) {
  if (region == nullptr || frozen == nullptr) return null_argument("aios_region_is_frozen");
  return guarded([&]() -> Result<void> {
    TRY(region->core->check_process());
    *frozen = TRY(region->region.kind()) == RegionKind::frozen ? 1 : 0;
    return {};
  });
}

aios_code aios_region_keep(const aios_region* region, const char* label, std::uint32_t access) {
  if (region == nullptr || label == nullptr) return null_argument("aios_region_keep");
  return guarded([&]() -> Result<void> {
    TRY(region->core->check_process());
    TRY(check_label(*region->core, label));
    const auto entry = TRY(grant_entry(*region, access));
    return keep(*region->core, region->region.handle(), entry.use, entry.grant, label);
  });
}

aios_code aios_region_open(aios_instance* instance, const char* label, std::uint32_t access,
                           aios_region** region) {
  if (instance == nullptr || label == nullptr || region == nullptr)
    return null_argument("aios_region_open");
  return guarded([&]() -> Result<void> {
    TRY(instance->core->check_process());
    *region = TRY(open_kept(instance->core, label, access));
    return {};
  });
}
