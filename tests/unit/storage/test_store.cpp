#include "tests/unit/storage/test_store.hpp"

#include <algorithm>
#include <cstring>
#include <random>

namespace aios::storage::test {
namespace {

constexpr const char* space = "u1000";
constexpr int max_steps = 100'000;
constexpr int settled_after_steps = 64;
constexpr ObjectStore::Client client = 1;

template <class T>
auto keep(std::optional<Result<T>>& answer) {
  return [&answer](Result<T> result) { answer = std::move(result); };
}

}  // namespace

Bytes pattern(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(bytes.data() + at, &word, std::min(sizeof(word), size - at));
  }
  return bytes;
}

Result<TestStore> TestStore::open(SimMachine& machine) {
  TestStore out;
  auto metadata = TRY(Metadata::open("meta.db", 1, machine.vfs()));
  out.store = TRY(ObjectStore::create({machine.disk(), std::move(metadata), machine.background()}));
  return out;
}

void TestStore::step() {
  time_ns_ += 100'000;
  store->advance(now());
}

void TestStore::settle() {
  for (int quiet = 0; quiet < settled_after_steps; ++quiet) step();
}

template <class T>
Result<T> TestStore::wait(std::optional<Result<T>>& answer) {
  for (int i = 0; i < max_steps && !answer && !store->fatal(); ++i) step();
  if (!answer) return error(Code::internal, "no answer");
  return *answer;
}

Result<ObjectInfo> TestStore::put(const std::string& name, const Bytes& bytes,
                                  std::optional<Operation> operation) {
  std::optional<Result<ObjectInfo>> answer;
  store->put(client, {space, name}, bytes, nullptr, now(), keep(answer), operation);
  return wait(answer);
}

Result<Bytes> TestStore::get(const std::string& name, std::uint64_t offset, std::size_t length,
                             std::uint64_t version) {
  std::optional<Result<GetResult>> answer;
  Bytes bytes(length);
  store->get(client, {space, name}, version, offset, bytes, nullptr, keep(answer));
  const GetResult result = TRY(wait(answer));
  bytes.resize(result.length_bytes);
  return bytes;
}

Result<ObjectInfo> TestStore::stat(const std::string& name) {
  std::optional<Result<ObjectInfo>> answer;
  store->stat({space, name}, keep(answer));
  return wait(answer);
}

Result<> TestStore::remove(const std::string& name, std::optional<Operation> operation) {
  std::optional<Result<>> answer;
  store->remove({space, name}, now(), keep(answer), operation);
  return wait(answer);
}

Result<> TestStore::rename(const std::string& from, const std::string& to,
                           std::optional<Operation> operation) {
  std::optional<Result<>> answer;
  store->rename({space, from}, to, now(), keep(answer), operation);
  return wait(answer);
}

Result<std::uint64_t> TestStore::remove_prefix(const std::string& prefix,
                                               std::optional<Operation> operation) {
  std::optional<Result<std::uint64_t>> answer;
  store->remove_prefix({space, prefix}, now(), keep(answer), operation);
  return wait(answer);
}

Result<Listing> TestStore::list(const std::string& prefix, const std::string& after,
                                std::uint32_t limit) {
  std::optional<Result<Listing>> answer;
  store->list({space, prefix}, after, limit, keep(answer));
  return wait(answer);
}

StoreInfo TestStore::info() {
  std::optional<Result<StoreInfo>> answer;
  store->info(keep(answer));
  return *wait(answer);
}

}  // namespace aios::storage::test
