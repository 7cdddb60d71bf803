// Tasks that wait for a busy device are not placed anew in every decision.
#include "tests/unit/scheduler/told_core.hpp"

namespace aios::scheduler {
namespace {

constexpr DeviceId slow = 0;
constexpr DeviceId fast = 1;
constexpr DeviceId alike = 2;

/// A slow device of two slots, and two fast ones that are alike, of one.
class Three : public ToldCore {
 public:
  Three() : ToldCore(*make_policy("dmda")) {
    add_device(slow, 2);
    add_device(fast, 1);
    add_device(alike, 1);
    tenant = *core.open_tenant(1, "job", 1000);
    for (const std::string name : {"picky", "easy"})
      REQUIRE(core.add_codelet(tenant, proto::Text<64>::from(name)));
    for (const DeviceId device : {slow, fast, alike}) {
      tell("picky", device, device == slow ? 1000 * ms : 10 * ms);
      tell("easy", device, device == slow ? 1 * ms : 1000 * ms);
    }
  }
  void submit(std::uint32_t codelet, const std::vector<std::uint64_t>& tags) {
    std::vector<TaskRecord> records;
    for (const std::uint64_t tag : tags) {
      records.push_back(task(tag));
      records.back().codelet = codelet;
    }
    REQUIRE(core.submit(tenant, records, now));
    run();
  }
  bool runs_on(std::uint64_t tag, DeviceId device) {
    return running.contains(tag) && on.at(tag) == device;
  }

  TenantId tenant = 0;
};
constexpr std::uint32_t picky = 0;
constexpr std::uint32_t easy = 1;

}  // namespace

TEST_CASE("Who waits for one of two that are alike is not placed anew until the other is sooner") {
  Three m;
  m.submit(easy, {1});
  m.end(1, 1);
  m.costs->asked = 0;
  m.submit(easy, {2});
  const std::size_t alone = m.costs->asked;
  REQUIRE(alone >= 3);

  m.submit(picky, {11, 12, 13, 14});
  REQUIRE(m.runs_on(11, fast));
  REQUIRE(m.runs_on(12, alike));
  REQUIRE(m.running.size() == 3);
  m.costs->asked = 0;
  m.submit(easy, {3});
  CHECK(m.runs_on(3, slow));
  CHECK(m.costs->asked == alone);

  // Long before the one that both wait for: that is seen though neither was looked at.
  m.end(12, 1);
  CHECK((m.runs_on(13, alike) || m.runs_on(14, alike)));
}

}  // namespace aios::scheduler
