// Finds the record on which a split's map task fails, and gets past it.
//
// A task says where it is before every record, but it may crash later than its fault, and what it
// says may be nonsense. So what it said is only the first guess: all before the record is mapped,
// then the record alone, and it is bad when it fails alone. A guess that was wrong is halved.
#pragma once

#include <cstdint>

namespace aios::mapreduce {

class Suspect {
 public:
  /// For MapArguments::record_limit: how many records the next task takes.
  std::uint32_t record_limit() const;
  /// The next task passes over the bad record.
  bool skipping() const { return skipping_; }

  /// The task failed, at its `record`th record by its own account; 0: it does not say. True when it
  /// had this record alone: the next task would skip it.
  bool failed(std::uint64_t record);
  /// The task took so many records.
  void succeeded(std::uint64_t records);

 private:
  std::uint64_t within_ = 0;  ///< the bad record is among so many next ones
  std::uint32_t limit_ = 0;   ///< of the next task; 0: nothing is suspected
  bool skipping_ = false;
};

}  // namespace aios::mapreduce
