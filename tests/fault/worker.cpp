#include "tests/fault/worker.hpp"

#include <algorithm>
#include <cstdio>

namespace aios::fault {

namespace {
constexpr std::size_t remembered_acknowledgements = 256;
constexpr std::uint64_t slow_call_ns = ns_per_s;
}  // namespace

void Breaches::add(const std::string& what) {
  constexpr std::size_t most = 20;
  const std::lock_guard lock(mutex_);
  if (list_.size() < most) list_.push_back(what);
  any_ = true;
}

std::vector<std::string> Breaches::all() const {
  const std::lock_guard lock(mutex_);
  return list_;
}

Worker::Worker(Ground& ground, std::string name, Parts needs, std::uint64_t aftermath_ns)
    : ground_(ground),
      random_(std::hash<std::string>{}(name) ^ ground.seed),
      name_(std::move(name)),
      needs_(needs),
      aftermath_ns_(aftermath_ns) {}

void Worker::start() {
  stopping_ = false;
  thread_ = std::thread([this] { run(); });
}

void Worker::stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void Worker::run() {
  open();
  while (!stopping_ && !ground_.breaches.any()) round();
  if (!ground_.breaches.any()) close();
}

void Worker::verify() {
  open();
  if (!ground_.breaches.any()) check_all();
  if (!ground_.breaches.any()) close();
}

std::uint64_t Worker::pending(Parts which) const {
  for (const auto* one : {&call_, &work_}) {
    const std::uint64_t value = one->load();
    if (value != 0 && (value & which) != 0) return value >> 8;
  }
  return 0;
}

std::string Worker::overdue() const {
  const std::uint64_t due = due_ns_.load();
  if (due == 0 || now_ns() <= due + slack_ns) return {};
  return name_ + ": " + what_.load() + " has not ended " +
         std::to_string((now_ns() - due) / ns_per_ms) + " ms after its deadline";
}

std::vector<Worker::Acknowledged> Worker::acknowledged_since(std::uint64_t begin_ns) const {
  const std::lock_guard lock(acknowledged_mutex_);
  std::vector<Acknowledged> found;
  for (const Acknowledged& one : acknowledged_)
    if (one.begin_ns >= begin_ns) found.push_back(one);
  return found;
}

void Worker::acknowledged(std::uint64_t begin_ns, std::uint64_t size_bytes) {
  const std::lock_guard lock(acknowledged_mutex_);
  if (acknowledged_.size() >= remembered_acknowledgements)
    acknowledged_.erase(acknowledged_.begin(),
                        acknowledged_.begin() + remembered_acknowledgements / 2);
  acknowledged_.push_back({begin_ns, now_ns(), size_bytes});
}

void Worker::begin_work(Parts which) {
  work_ = ++number_ << 8 | which;
}

void Worker::breach(const std::string& what) {
  ground_.breaches.add(name_ + ": " + what);
}

bool Worker::excused(Parts which, Code code, std::uint64_t begin_ns) const {
  return ground_.disturbances.excuse(which & needs_, code, begin_ns, aftermath_ns_);
}

aios_code Worker::call(const char* what, Parts which, std::uint64_t timeout_ns,
                       const std::function<aios_code(std::uint64_t)>& body, Codes expected) {
  const std::uint64_t begin = now_ns();
  const Judged judged(ground_.disturbances, which & needs_, timeout_ns, aftermath_ns_);
  began_ns_ = begin;
  what_ = what;
  due_ns_ = begin + timeout_ns;
  call_ = ++number_ << 8 | which;
  const aios_code code = body(timeout_ns);
  const std::string text = code == AIOS_OK ? std::string() : aios_last_error();
  call_ = 0;
  due_ns_ = 0;
  ++calls_;
  const std::uint64_t took = now_ns() - begin;
  const std::string where =
      std::string(what) + " after " + std::to_string(took / ns_per_us) + " us";
  if (took > timeout_ns + slack_ns) breach(where + ": ended long after its deadline");
  const auto number = static_cast<unsigned>(code);
  if (ground_.tell_failures && took > slow_call_ns)
    std::fprintf(stderr, "%.3f %s: %s: slow\n", static_cast<double>(now_ns()) / ns_per_s,
                 name_.c_str(), where.c_str());
  if (code == AIOS_OK || (expected >> number & 1) != 0) {
    ++right_;
    return code;
  }
  ++failures_[aios_code_name(code)];
  const bool fair = judged.excuses(static_cast<Code>(code));
  if (ground_.tell_failures)
    std::fprintf(stderr, "%.3f %s: %s: %s: %s\n", static_cast<double>(now_ns()) / ns_per_s,
                 name_.c_str(), where.c_str(), aios_code_name(code), text.c_str());
  if (!fair) breach(where + ": " + aios_code_name(code) + ", which no fault explains: " + text);
  return code;
}

}  // namespace aios::fault
