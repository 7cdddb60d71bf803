#include "drivers/gpu/look/gauges.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <sstream>

#include "drivers/gpu/look/gauge_helper.hpp"
#include "drivers/gpu/look/helper_process.hpp"

namespace aios::gpu {

namespace {

constexpr std::uint64_t interval_ns = 2 * ns_per_s;
constexpr std::size_t most_text_bytes = 64u << 10;
/// No line of text has such a character.
constexpr std::string_view last_line = "\x04\n";
constexpr std::uint32_t most_celsius = 1000;

/// "-" is a number that is not known; false: it is neither, or more than `most`.
bool parse(const std::string& text, std::uint32_t most, std::optional<double>& number) {
  if (text == "-") return true;
  std::uint32_t value = 0;
  const char* const end = text.data() + text.size();
  if (std::from_chars(text.data(), end, value).ptr != end || text.empty() || value > most)
    return false;
  number = value;
  return true;
}

bool read_line(const std::string& line, GaugeAnswer& into) {
  std::istringstream fields(line);
  std::string kind, first, busy, celsius;
  std::getline(fields, kind, '\t');
  std::getline(fields, first, '\t');
  if (kind == "none" && !first.empty()) {
    into.why_not = first;
    return true;
  }
  std::getline(fields, busy, '\t');
  std::getline(fields, celsius, '\t');
  device::Readings readings;
  if (kind != "gauge" || first.empty() || !parse(busy, 100, readings.busy) ||
      !parse(celsius, most_celsius, readings.celsius))
    return false;
  if (readings.busy) *readings.busy /= 100;
  into.readings[first] = readings;
  return true;
}

}  // namespace

std::optional<GaugeAnswer> parse_gauges(std::string_view text) {
  GaugeAnswer answer;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    if (line + '\n' == last_line) return answer;
    if (!read_line(line, answer)) return std::nullopt;
  }
  return std::nullopt;
}

Result<std::unique_ptr<Gauges>> Gauges::start(EventLoop& loop, unsigned limit_ms,
                                              std::function<void()> changed) {
  std::unique_ptr<Gauges> gauges(new Gauges(loop, std::move(changed)));
  gauges->socket_ = TRY(start_helper("aios-gpu-gauges", [limit_ms] { serve_gauges(limit_ms); }));
  TRY(loop.watch(gauges->socket_.get(), EPOLLIN,
                 [self = gauges.get()](std::uint32_t) { self->read(); }));
  return gauges;
}

Gauges::~Gauges() {
  loop_.cancel(timer_);
  if (socket_.valid()) loop_.unwatch(socket_.get());
}

void Gauges::watch(std::vector<GaugeSubject> subjects) {
  if (subjects == subjects_) return;
  subjects_ = std::move(subjects);
  loop_.cancel(timer_);
  if (!asking_) ask();
}

void Gauges::ask() {
  if (!socket_.valid()) return;
  if (subjects_.empty()) return take({});
  std::string question;
  for (const GaugeSubject& subject : subjects_)
    question += (question.empty() ? "" : "\t") + subject.pci_address + '\t' + subject.uuid;
  question += '\n';
  text_.clear();
  asking_ = true;
  // No more than one question is on its way: there is room.
  if (::write(socket_.get(), question.data(), question.size()) !=
      static_cast<ssize_t>(question.size()))
    give_up();
}

void Gauges::read() {
  char buffer[4096];
  const ssize_t count = ::read(socket_.get(), buffer, sizeof buffer);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0 || text_.size() > most_text_bytes) return give_up();
  text_.append(buffer, static_cast<std::size_t>(count));
  if (!text_.ends_with(last_line)) return;
  asking_ = false;
  auto answer = parse_gauges(text_);
  take(answer ? std::move(*answer) : GaugeAnswer{{}, "what is said about GPUs makes no sense"});
  timer_ = loop_.after(interval_ns, [this] { ask(); });
}

void Gauges::take(GaugeAnswer answer) {
  const bool changed = answer.why_not != answer_.why_not;
  answer_ = std::move(answer);
  if (changed) changed_();
}

void Gauges::give_up() {
  if (socket_.valid()) loop_.unwatch(socket_.get());
  socket_.reset();
  take({{}, "the process that asks after GPUs has ended"});
}

device::Readings Gauges::of(const std::string& uuid) const {
  const auto found = answer_.readings.find(uuid);
  return found != answer_.readings.end() ? found->second : device::Readings{};
}

}  // namespace aios::gpu
