#include "services/supervisor/plan.hpp"

#include <algorithm>
#include <cassert>
#include <map>

namespace aios::supervisor {

namespace {

/// Depth-first: a server is placed after all it needs.
class Planner {
 public:
  explicit Planner(const Manifest& manifest) : manifest_(manifest) {
    for (std::size_t i = 0; i < manifest.servers.size(); ++i)
      by_name_.emplace(manifest.servers[i].name, i);
  }

  Result<Plan> run() {
    plan_.timing = manifest_.timing;
    plan_.require = manifest_.require;
    plan_.user_quota = manifest_.user_quota;
    for (std::size_t i = 0; i < manifest_.servers.size(); ++i) TRY(place(i));
    return std::move(plan_);
  }

 private:
  Result<std::size_t> place(std::size_t server) {
    if (const auto done = placed_.find(server); done != placed_.end()) return done->second;
    if (std::find(path_.begin(), path_.end(), server) != path_.end()) return cycle(server);
    path_.push_back(server);
    const ServerSpec& spec = manifest_.servers[server];
    PlannedServer planned{spec, {}};
    for (const auto* names : {&spec.routes, &spec.depends}) {
      for (const std::string& name : *names) {
        if (name == supervisor_name) continue;
        const std::size_t need = TRY(place(by_name_.at(name)));
        if (std::find(planned.needs.begin(), planned.needs.end(), need) == planned.needs.end())
          planned.needs.push_back(need);
      }
    }
    path_.pop_back();
    plan_.servers.push_back(std::move(planned));
    return placed_[server] = plan_.servers.size() - 1;
  }

  std::unexpected<Status> cycle(std::size_t server) const {
    std::string names;
    for (auto at = std::find(path_.begin(), path_.end(), server); at != path_.end(); ++at)
      names += manifest_.servers[*at].name + " -> ";
    const ServerSpec& spec = manifest_.servers[server];
    return error(Code::invalid_argument, manifest_.path + ":" + std::to_string(spec.line) +
                                             ": servers need one another in a circle: " + names +
                                             spec.name +
                                             "; take one of these out of 'routes' or 'depends'");
  }

  const Manifest& manifest_;
  std::map<std::string, std::size_t> by_name_;
  std::map<std::size_t, std::size_t> placed_;  ///< manifest index to plan index
  std::vector<std::size_t> path_;              ///< being placed, outermost first
  Plan plan_;
};

}  // namespace

Result<Plan> make_plan(const Manifest& manifest) {
  return Planner(manifest).run();
}

}  // namespace aios::supervisor
