#include "services/scheduler/costs/history_record.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cmath>

#include "services/scheduler/core/parts/limits.hpp"
#include "services/scheduler/costs/copy_costs.hpp"
#include "services/scheduler/costs/record_bytes.hpp"

namespace aios::scheduler {
namespace {

constexpr std::uint64_t history_magic = 0x5453494853'4F4941;  // "AIOSHIST"
/// Grows with every change of what follows.
constexpr std::uint32_t history_version = 3;
/// Logarithms of times and sizes, and all that is made of them, are far below.
constexpr double most_value = 1e6;
constexpr std::size_t max_saved_users = 256;
constexpr std::size_t max_saved_copies = max_devices * CopyCosts::max_users;

struct Header {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t devices;
  std::uint32_t users;
  std::uint32_t codelets;
  std::uint32_t copies;
  std::uint32_t reserved;
  std::uint64_t body_bytes;
  std::uint64_t checksum;  ///< XXH3-64 of the body
};

struct CodeletHead {
  std::uint64_t module_hash;
  std::uint32_t user;
  std::uint32_t trends;
  std::uint32_t sizes;
  std::uint32_t reserved;
  double center[3];
  proto::Text<64> function;
};

struct SizeHead {
  std::uint64_t place;
  Features features;
  std::uint32_t series;
  std::uint32_t reserved;
};

std::unexpected<Status> nonsense(const char* what) {
  return error(Code::corrupt, std::string("the stored history makes no sense: ") + what);
}

bool sane(double value) {
  return std::isfinite(value) && std::abs(value) <= most_value;
}

bool sane(const SavedError& e) {
  return sane(e.value) && e.value >= 0 && e.samples <= ~0u;
}

bool sane(const SavedFirst& f) {
  return std::isfinite(f.y) && std::abs(f.y) <= most_value && std::isfinite(f.told) &&
         std::abs(f.told) <= most_value;
}

/// An amount, not a logarithm.
bool is_amount(double value) {
  return value >= 0 && value < 1e18;
}

bool sane(const SavedTrend& t, std::uint32_t devices) {
  const Regression::State& r = t.regression;
  bool numbers = sane(r.noise) && r.noise >= 0 && sane(r.lowest) && sane(r.highest) && sane(t.z);
  for (int i = 0; i < Regression::dimensions; ++i) {
    numbers = numbers && sane(r.weights[i]) && r.covariance[i][i] >= 0;
    for (const double value : r.covariance[i]) numbers = numbers && sane(value);
  }
  return numbers && t.device < devices && t.memory <= 1 && sane(t.history_error) &&
         sane(t.regression_error) && sane(t.prior_error) && sane(t.trees_error) &&
         sane(t.told_error);
}

bool sane(const SavedSeries& s, std::uint32_t devices) {
  return s.device < devices && s.memory <= 1 && s.samples > 0 && s.has_own_quantile <= 1 &&
         sane(s.mean) && sane(s.variance) && s.variance >= 0 && sane(s.z) &&
         sane(s.history_error) && sane(s.regression_error) && sane(s.first);
}

/// Numbers of no copies are not used.
bool sane(const SavedCopies& copies, std::uint32_t devices) {
  bool numbers = copies.device < devices;
  for (const SavedCopies::Mean(&way)[2] : copies.means)
    for (int large = 0; large < 2; ++large) {
      const auto& [weight, bytes, ns] = way[large];
      if (weight == 0) continue;
      const bool is_large = bytes >= static_cast<double>(proto::context::Copies::large_bytes);
      numbers = numbers && is_amount(weight) && is_amount(bytes) && bytes >= 1 && is_amount(ns) &&
                is_large == (large == 1);
    }
  return numbers;
}

Result<SavedSize> read_size(Reader& reader, std::uint32_t devices) {
  const auto head = TRY(reader.get<SizeHead>());
  if (head.series > 2 * max_devices) return nonsense("a size has too many devices");
  const Features& f = head.features;
  for (const double amount :
       {f.bytes, f.blocks, f.read_bytes, f.written_bytes, f.largest_bytes, f.buffers})
    if (!is_amount(amount)) return nonsense("a size is no size");
  SavedSize size{head.place, f, {}};
  for (std::uint32_t i = 0; i < head.series; ++i) {
    size.series.push_back(TRY(reader.get<SavedSeries>()));
    if (!sane(size.series.back(), devices)) return nonsense("a size's numbers");
  }
  return size;
}

Result<SavedCodelet> read_codelet(Reader& reader, std::uint32_t devices) {
  const auto head = TRY(reader.get<CodeletHead>());
  if (!head.function.valid() || head.trends > 2 * max_devices ||
      head.sizes > 2 * max_learned_sizes || head.module_hash == 0)
    return nonsense("a codelet's head");
  SavedCodelet codelet;
  codelet.key = {head.module_hash, head.user, std::string(head.function.view())};
  for (int i = 0; i < Regression::dimensions; ++i) {
    if (!sane(head.center[i])) return nonsense("a codelet's centre");
    codelet.center[i] = head.center[i];
  }
  for (std::uint32_t i = 0; i < head.trends; ++i) {
    codelet.trends.push_back(TRY(reader.get<SavedTrend>()));
    if (!sane(codelet.trends.back(), devices)) return nonsense("a codelet's numbers");
  }
  for (std::uint32_t i = 0; i < head.sizes; ++i)
    codelet.sizes.push_back(TRY(read_size(reader, devices)));
  return codelet;
}

Result<SavedHistory> read_body(Reader reader, const Header& header) {
  if (header.devices > max_devices || header.users > max_saved_users ||
      header.codelets > max_learned_codelets || header.copies > max_saved_copies ||
      header.reserved != 0)
    return nonsense("its head");
  SavedHistory history;
  for (std::uint32_t i = 0; i < header.devices; ++i) {
    const auto name = TRY(reader.get<DeviceText>());
    if (!name.valid()) return nonsense("a device's name");
    history.costs.devices.emplace_back(name.view());
  }
  for (std::uint32_t i = 0; i < header.users; ++i) {
    const auto bias = TRY(reader.get<SavedBias>());
    if (!sane(bias.mean) || !sane(bias.variance) || bias.variance < 0 || !sane(bias.z) ||
        bias.samples == 0)
      return nonsense("a user's numbers");
    history.users.push_back(bias);
  }
  for (std::uint32_t i = 0; i < header.copies; ++i) {
    const auto copies = TRY(reader.get<SavedCopies>());
    // Made of contexts' words: what makes no sense is left out, and costs nobody else a thing.
    if (sane(copies, header.devices)) history.copies.push_back(copies);
  }
  for (std::uint32_t i = 0; i < header.codelets; ++i)
    history.costs.codelets.push_back(TRY(read_codelet(reader, header.devices)));
  if (!reader.at_end()) return nonsense("something follows its end");
  return history;
}

}  // namespace

std::size_t bytes_of(const SavedCodelet& codelet) {
  std::size_t sum = sizeof(CodeletHead) + codelet.trends.size() * sizeof(SavedTrend);
  for (const SavedSize& size : codelet.sizes)
    sum += sizeof(SizeHead) + size.series.size() * sizeof(SavedSeries);
  return sum;
}

std::vector<std::byte> write_history(const SavedCosts& costs, const std::vector<SavedBias>& users,
                                     const std::vector<SavedCopies>& copies) {
  Writer body;
  for (const std::string& device : costs.devices) body.put(DeviceText::from(device));
  for (const SavedBias& bias : users) body.put(bias);
  for (const SavedCopies& one : copies) body.put(one);
  for (const SavedCodelet& codelet : costs.codelets) {
    CodeletHead head{codelet.key.module_hash,
                     codelet.key.user,
                     static_cast<std::uint32_t>(codelet.trends.size()),
                     static_cast<std::uint32_t>(codelet.sizes.size()),
                     0,
                     {},
                     proto::Text<64>::from(codelet.key.function)};
    std::ranges::copy(codelet.center, head.center);
    body.put(head);
    for (const SavedTrend& trend : codelet.trends) body.put(trend);
    for (const SavedSize& size : codelet.sizes) {
      body.put(
          SizeHead{size.place, size.features, static_cast<std::uint32_t>(size.series.size()), 0});
      for (const SavedSeries& series : size.series) body.put(series);
    }
  }
  const std::vector<std::byte> bytes = body.take();
  Writer whole;
  whole.put(Header{history_magic, history_version, static_cast<std::uint32_t>(costs.devices.size()),
                   static_cast<std::uint32_t>(users.size()),
                   static_cast<std::uint32_t>(costs.codelets.size()),
                   static_cast<std::uint32_t>(copies.size()), 0, bytes.size(),
                   XXH3_64bits(bytes.data(), bytes.size())});
  std::vector<std::byte> out = whole.take();
  out.insert(out.end(), bytes.begin(), bytes.end());
  return out;
}

Result<SavedHistory> read_history(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  const auto header = TRY(reader.get<Header>());
  if (header.magic != history_magic) return error(Code::corrupt, "it is no stored history");
  if (header.version != history_version)
    return error(Code::version_mismatch, "the stored history has version " +
                                             std::to_string(header.version) + ", not " +
                                             std::to_string(history_version));
  const std::span<const std::byte> body = bytes.subspan(sizeof header);
  if (header.body_bytes != body.size() || header.checksum != XXH3_64bits(body.data(), body.size()))
    return error(Code::corrupt, "the stored history is damaged: its checksum differs");
  return read_body(Reader(body), header);
}

}  // namespace aios::scheduler
