#include "drivers/cpu/context_table.hpp"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstdio>

namespace aios::cpu {
namespace {

struct ParsedLabel {
  KeptPart part;
  std::uint64_t job_id;
  std::uint32_t generation;
};

template <class T>
bool parse_hex(std::string_view text, T& value) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return failure == std::errc() && end == text.data() + text.size();
}

std::optional<ParsedLabel> parse_label(std::string_view label) {
  if (!label.starts_with("ctx-p:") && !label.starts_with("ctx-a:")) return std::nullopt;
  ParsedLabel parsed{.part = static_cast<KeptPart>(label[4]), .job_id = 0, .generation = 0};
  const std::string_view numbers = label.substr(6);
  const std::size_t colon = numbers.find(':');
  if (colon == std::string_view::npos || !parse_hex(numbers.substr(0, colon), parsed.job_id) ||
      !parse_hex(numbers.substr(colon + 1), parsed.generation))
    return std::nullopt;
  return parsed;
}

}  // namespace

std::string kept_label(KeptPart part, std::uint64_t job_id, std::uint32_t generation) {
  char text[sizeof(proto::kernel::Label)];
  std::snprintf(text, sizeof text, "ctx-%c:%lx:%x", static_cast<char>(part), job_id, generation);
  return text;
}

Adoption plan_adoption(const std::vector<KeptHandle>& kept) {
  std::map<std::pair<std::uint64_t, std::uint32_t>, Context> found;  // by job and generation
  for (const KeptHandle& entry : kept) {
    const auto label = parse_label(entry.label);
    if (!label) continue;
    Context& context = found[{label->job_id, label->generation}];
    context.tenant_job_id = label->job_id;
    context.generation = label->generation;
    (label->part == KeptPart::process ? context.process : context.port) = entry.handle;
  }
  Adoption plan;
  const auto drop = [&plan](const Context& context) {
    for (const auto& [part, handle] :
         {std::pair(KeptPart::process, context.process), std::pair(KeptPart::port, context.port)})
      if (handle != 0)
        plan.useless.push_back(
            {kept_label(part, context.tenant_job_id, context.generation), handle});
  };
  for (const auto& [key, context] : found) {  // generations of one job follow one another
    if (context.process == 0 || context.port == 0) {
      drop(context);
      continue;
    }
    if (!plan.contexts.empty() && plan.contexts.back().tenant_job_id == context.tenant_job_id) {
      drop(plan.contexts.back());
      plan.contexts.pop_back();
    }
    plan.contexts.push_back(context);
  }
  return plan;
}

Context* ContextTable::find(std::uint64_t tenant_job_id) {
  const auto it = contexts_.find(tenant_job_id);
  return it == contexts_.end() ? nullptr : &it->second;
}

Context* ContextTable::find_process(Handle process) {
  for (auto& [job, context] : contexts_)
    if (context.process == process) return &context;
  return nullptr;
}

Result<std::optional<Context>> ContextTable::make_room() {
  if (contexts_.size() < max_contexts) return std::nullopt;
  if (ended_.empty())
    return error(Code::quota, "this device serves at most " + std::to_string(max_contexts) +
                                  " tenants at once; try again when one of them is done");
  return remove(ended_.front());
}

Context& ContextTable::insert(Context context) {
  assert(contexts_.size() < max_contexts && !contexts_.contains(context.tenant_job_id));
  if (context.generation > 1) ++restarts_;
  const std::uint64_t job = context.tenant_job_id;
  return contexts_.emplace(job, std::move(context)).first->second;
}

void ContextTable::ended(Context& context, End end) {
  assert(context.alive);
  context.alive = false;
  context.end = std::move(end);
  ended_.push_back(context.tenant_job_id);
}

std::optional<Context> ContextTable::remove(std::uint64_t tenant_job_id) {
  const auto it = contexts_.find(tenant_job_id);
  if (it == contexts_.end()) return std::nullopt;
  std::erase(ended_, tenant_job_id);
  Context context = std::move(it->second);
  contexts_.erase(it);
  return context;
}

std::uint32_t ContextTable::alive() const {
  return static_cast<std::uint32_t>(std::count_if(
      contexts_.begin(), contexts_.end(), [](const auto& entry) { return entry.second.alive; }));
}

}  // namespace aios::cpu
