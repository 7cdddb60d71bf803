// An ObjectStore on a simulated machine, with calls that wait.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "services/storage/object_store.hpp"
#include "tests/unit/storage/sim_machine.hpp"

namespace aios::storage::test {

using Bytes = std::vector<std::byte>;

/// `size` bytes that differ for every `seed`.
Bytes pattern(std::size_t size, std::uint64_t seed);

class TestStore {
 public:
  /// Recovers what the machine holds.
  static Result<TestStore> open(SimMachine& machine);

  /// Each waits for its answer; `internal` when the store gave up (see `store->fatal()`).
  Result<ObjectInfo> put(const std::string& name, const Bytes& bytes,
                         std::optional<Operation> operation = {});
  Result<Bytes> get(const std::string& name, std::uint64_t offset = 0,
                    std::size_t length = 1u << 20, std::uint64_t version = 0);
  Result<ObjectInfo> stat(const std::string& name);
  Result<> remove(const std::string& name, std::optional<Operation> operation = {});
  Result<> rename(const std::string& from, const std::string& to,
                  std::optional<Operation> operation = {});
  Result<std::uint64_t> remove_prefix(const std::string& prefix,
                                      std::optional<Operation> operation = {});
  Result<Listing> list(const std::string& prefix, const std::string& after = {},
                       std::uint32_t limit = 1000);
  StoreInfo info();

  /// Advances until nothing is left to do; time passes meanwhile.
  void settle();
  /// One advance, a little later than the last.
  void step();
  Now now() const { return {time_ns_, 1'000'000'000 + time_ns_}; }

  std::unique_ptr<ObjectStore> store;

 private:
  template <class T>
  Result<T> wait(std::optional<Result<T>>& answer);
  std::uint64_t time_ns_ = 1;
};

}  // namespace aios::storage::test
