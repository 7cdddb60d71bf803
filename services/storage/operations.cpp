#include "services/storage/operations.hpp"

#include <algorithm>

namespace aios::storage {

Result<> Operations::load(Database& database, std::uint64_t now_ns) {
  find_ = TRY(database.prepare(
      "SELECT kind, answer FROM operations WHERE space = ?1 AND session = ?2 AND sequence = ?3"));
  insert_ = TRY(database.prepare("INSERT OR REPLACE INTO operations VALUES(?1, ?2, ?3, ?4, ?5)"));
  acknowledge_ = TRY(database.prepare(
      "DELETE FROM operations WHERE space = ?1 AND session = ?2 AND sequence <= ?3"));
  forget_ = TRY(database.prepare("DELETE FROM operations WHERE space = ?1 AND session = ?2"));
  note_ = TRY(database.prepare("INSERT OR REPLACE INTO forgotten VALUES(?1, ?2)"));
  Statement sessions = TRY(database.prepare("SELECT DISTINCT space, session FROM operations"));
  Query known(sessions);
  while (TRY(known.step())) touch(spaces_[known.text(0)], known.number(1), now_ns);
  Statement forgotten = TRY(database.prepare("SELECT space, at_ns FROM forgotten"));
  Query times(forgotten);
  // A time to come was noted before the machine was started anew, by whose clients are all gone.
  while (TRY(times.step()))
    if (times.number(1) <= now_ns) spaces_[times.text(0)].forgotten_ns = times.number(1);
  return {};
}

Operations::Session& Operations::touch(Space& space, std::uint64_t session, std::uint64_t now_ns) {
  const auto [at, is_new] = space.by_number.try_emplace(session);
  if (is_new)
    at->second = space.by_age.insert(space.by_age.end(), {session, now_ns, now_ns});
  else
    space.by_age.splice(space.by_age.end(), space.by_age, at->second);
  at->second->last_ns = std::max(at->second->last_ns, now_ns);
  return *at->second;
}

Result<> Operations::forget_old(const std::string& name, Space& space, std::uint64_t now_ns) {
  while (space.by_age.size() > max_sessions_per_space ||
         space.by_age.front().last_ns + session_lease_ns < now_ns) {
    const std::uint64_t session = space.by_age.front().number;
    space.by_number.erase(session);
    space.by_age.pop_front();
    space.forgotten_ns = std::max(space.forgotten_ns, now_ns);
    TRY(Query(forget_).text(1, name).number(2, session).run());
    TRY(Query(note_).text(1, name).number(2, space.forgotten_ns).run());
  }
  return {};
}

Result<std::optional<std::vector<std::byte>>> Operations::begin(const std::string& name,
                                                                const Operation& operation,
                                                                std::uint16_t kind) {
  const auto& id = operation.id;
  Space& space = spaces_[name];
  auto answer = TRY(find(name, operation, kind));
  const std::uint64_t since_ns = touch(space, id.session, operation.now_ns).since_ns;
  TRY(forget_old(name, space, operation.now_ns));
  TRY(Query(acknowledge_).text(1, name).number(2, id.session).number(3, id.acknowledged).run());
  if (answer || id.age_ns == 0) return answer;
  const std::uint64_t sent_ns = operation.now_ns - std::min(id.age_ns, operation.now_ns);
  if (space.forgotten_ns != 0 && sent_ns <= space.forgotten_ns && sent_ns < since_ns)
    return error(Code::indeterminate,
                 "it was asked for so long ago that storage no longer knows whether it was done");
  return answer;
}

Result<std::optional<std::vector<std::byte>>> Operations::find(const std::string& space,
                                                               const Operation& operation,
                                                               std::uint16_t kind) {
  Query query(find_);
  query.text(1, space).number(2, operation.id.session).number(3, operation.id.sequence);
  if (!TRY(query.step())) return std::optional<std::vector<std::byte>>();
  if (query.number(0) != kind)
    return error(Code::invalid_argument, "this operation id was given to another kind of change");
  const auto answer = query.blob(1);
  return std::vector<std::byte>(answer.begin(), answer.end());
}

Result<> Operations::record(const std::string& space, const Operation& operation,
                            std::uint16_t kind, std::span<const std::byte> answer) {
  return Query(insert_)
      .text(1, space)
      .number(2, operation.id.session)
      .number(3, operation.id.sequence)
      .number(4, kind)
      .blob(5, answer)
      .run();
}

std::size_t Operations::sessions(const std::string& space) const {
  const auto found = spaces_.find(space);
  return found == spaces_.end() ? 0 : found->second.by_age.size();
}

}  // namespace aios::storage
