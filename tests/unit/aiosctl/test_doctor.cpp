#include <doctest/doctest.h>

#include "tools/aiosctl/instances/doctor.hpp"

using namespace aios;
using namespace aios::ctl;
using proto::sandbox::all_protections;
using proto::sandbox::bit;
using sandbox::Profile;
using sandbox::Protection;

TEST_CASE("What the supervisor says of a manifest is read line by line") {
  const auto patients = parse_patients("supervisor supervisor \nstorage storage landlock,limits\n");
  REQUIRE(patients.has_value());
  REQUIRE(patients->size() == 2);
  CHECK(patients->at(0).require == 0);
  CHECK(patients->at(1).name == "storage");
  CHECK(patients->at(1).profile == Profile::storage);
  CHECK(patients->at(1).require == (bit(Protection::landlock) | bit(Protection::limits)));
  CHECK(!parse_patients("a giant\n").has_value());
  CHECK(!parse_patients("a server walls\n").has_value());
}

TEST_CASE("A diagnosis names who lacks a protection and who must not") {
  Diagnosis diagnosis;
  diagnosis.patients = {
      {"a", Profile::server, bit(Protection::limits), 0, all_protections},
      {"b", Profile::server, 0, 0, all_protections & ~bit(Protection::landlock)},
      {"c", Profile::open, 0, 0, 0},
  };
  CHECK(diagnosis.lacking(Protection::landlock) == std::vector<std::string>{"b"});
  CHECK(diagnosis.lacking(Protection::limits).empty());
  CHECK(diagnosis.requiring(Protection::limits) == std::vector<std::string>{"a"});
  CHECK(diagnosis.satisfied());
  diagnosis.patients[1].require = bit(Protection::landlock);
  CHECK(!diagnosis.satisfied());
}

TEST_CASE("Who is not locked in but must be is not satisfied") {
  Diagnosis diagnosis;
  diagnosis.patients = {{"c", Profile::open, bit(Protection::limits), 0, 0}};
  CHECK(!diagnosis.satisfied());
}
