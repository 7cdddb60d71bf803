#include "drivers/device/context_table.hpp"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstdio>

namespace aios::device {
namespace {

struct ParsedLabel {
  KeptPart part;
  ContextKey key;
  std::uint32_t generation;
};

template <class T>
bool parse_hex(std::string_view text, T& value) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return failure == std::errc() && end == text.data() + text.size();
}

std::optional<ParsedLabel> parse_label(std::string_view label) {
  constexpr std::string_view parts = "pamn";
  if (label.size() < 4 || !label.starts_with("c-") || label[3] != ':' ||
      parts.find(label[2]) == std::string_view::npos)
    return std::nullopt;
  ParsedLabel parsed{.part = static_cast<KeptPart>(label[2]), .key = {}, .generation = 0};
  const std::string_view numbers = label.substr(4);
  const std::size_t first = numbers.find(':');
  const std::size_t second = numbers.find(':', first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos ||
      !parse_hex(numbers.substr(0, first), parsed.key.device) ||
      !parse_hex(numbers.substr(first + 1, second - first - 1), parsed.key.tenant_job_id) ||
      !parse_hex(numbers.substr(second + 1), parsed.generation) || parsed.key.device >= max_devices)
    return std::nullopt;
  return parsed;
}

}  // namespace

std::string kept_label(KeptPart part, ContextKey key, std::uint32_t generation) {
  assert(key.device < max_devices);
  char text[sizeof(proto::kernel::Label)];
  std::snprintf(text, sizeof text, "c-%c:%x:%lx:%x", static_cast<char>(part), key.device,
                key.tenant_job_id, generation);
  return text;
}

namespace {

/// Of each owner both parts, or they are useless.
void plan_owners(const std::map<ContextKey, KeptOwner>& found, Adoption& plan) {
  for (const auto& [key, owner] : found) {
    if (owner.process != 0 && owner.port != 0) {
      plan.owners.push_back(owner);
      continue;
    }
    const KeptPart part = owner.process != 0 ? KeptPart::owner_process : KeptPart::owner_port;
    plan.useless.push_back({kept_label(part, key, 0), owner.process + owner.port});
  }
}

}  // namespace

Adoption plan_adoption(const std::vector<KeptHandle>& kept) {
  std::map<std::pair<ContextKey, std::uint32_t>, Context> found;  // by generation, too
  std::map<ContextKey, KeptOwner> owners;
  for (const KeptHandle& entry : kept) {
    const auto label = parse_label(entry.label);
    if (!label) continue;
    if (label->part == KeptPart::owner_process || label->part == KeptPart::owner_port) {
      KeptOwner& owner = owners[label->key];
      owner.key = label->key;
      (label->part == KeptPart::owner_process ? owner.process : owner.port) = entry.handle;
      continue;
    }
    Context& context = found[{label->key, label->generation}];
    context.key = label->key;
    context.generation = label->generation;
    (label->part == KeptPart::process ? context.process : context.port) = entry.handle;
  }
  Adoption plan;
  plan_owners(owners, plan);
  const auto drop = [&plan](const Context& context) {
    for (const auto& [part, handle] :
         {std::pair(KeptPart::process, context.process), std::pair(KeptPart::port, context.port)})
      if (handle != 0)
        plan.useless.push_back({kept_label(part, context.key, context.generation), handle});
  };
  for (const auto& [key, context] : found) {  // generations of one context follow one another
    if (context.process == 0 || context.port == 0) {
      drop(context);
      continue;
    }
    if (!plan.contexts.empty() && plan.contexts.back().key == context.key) {
      drop(plan.contexts.back());
      plan.contexts.pop_back();
    }
    plan.contexts.push_back(context);
  }
  return plan;
}

Context* ContextTable::find(ContextKey key) {
  const auto it = contexts_.find(key);
  return it == contexts_.end() ? nullptr : &it->second;
}

Context* ContextTable::find_process(Handle process) {
  for (auto& [key, context] : contexts_)
    if (context.process == process) return &context;
  return nullptr;
}

Result<void> ContextTable::may_have_another(std::uint32_t uid) const {
  const auto own = std::ranges::count_if(contexts_, [uid](const auto& entry) {
    return entry.second.alive && entry.second.uid == uid;
  });
  if (own < static_cast<std::ptrdiff_t>(max_contexts_per_user)) return {};
  return error(Code::quota, "a user has at most " + std::to_string(max_contexts_per_user) +
                                " jobs on a driver's devices at once; try again when one is done");
}

Result<std::optional<Context>> ContextTable::make_room() {
  if (contexts_.size() < max_contexts) return std::nullopt;
  if (ended_.empty())
    return error(Code::quota, "this driver serves at most " + std::to_string(max_contexts) +
                                  " tenants at once; try again when one of them is done");
  return remove(ended_.front());
}

Context& ContextTable::insert(Context context) {
  assert(contexts_.size() < max_contexts && !contexts_.contains(context.key));
  if (context.generation > 1) ++restarts_[context.key.device];
  const ContextKey key = context.key;
  return contexts_.emplace(key, std::move(context)).first->second;
}

void ContextTable::ended(Context& context, End end) {
  assert(context.alive);
  context.alive = false;
  using proto::driver::ContextEnd;
  if (end.how == ContextEnd::fault || end.how == ContextEnd::limit) ++faults_[context.key.device];
  context.end = std::move(end);
  ended_.push_back(context.key);
}

std::optional<Context> ContextTable::remove(ContextKey key) {
  const auto it = contexts_.find(key);
  if (it == contexts_.end()) return std::nullopt;
  std::erase(ended_, key);
  Context context = std::move(it->second);
  contexts_.erase(it);
  return context;
}

std::vector<ContextKey> ContextTable::living(std::optional<std::uint32_t> uid) const {
  std::vector<ContextKey> keys;
  for (const auto& [key, context] : contexts_)
    if (context.alive && (!uid || context.uid == uid)) keys.push_back(key);
  return keys;
}

std::uint32_t ContextTable::alive(std::uint32_t device) const {
  return static_cast<std::uint32_t>(std::count_if(
      contexts_.begin(), contexts_.end(),
      [device](const auto& entry) { return entry.first.device == device && entry.second.alive; }));
}

std::uint32_t ContextTable::restarts(std::uint32_t device) const {
  const auto found = restarts_.find(device);
  return found == restarts_.end() ? 0 : found->second;
}

std::uint32_t ContextTable::faults(std::uint32_t device) const {
  const auto found = faults_.find(device);
  return found == faults_.end() ? 0 : found->second;
}

}  // namespace aios::device
