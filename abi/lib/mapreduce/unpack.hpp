// Compressed inputs: unpacked before the job begins, so that they are split like any other file.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "abi/lib/mapreduce/input.hpp"
#include "abi/runtime/status.hpp"

namespace aios::mapreduce_client {

/// The files that compressed ones were unpacked to. Removed with the object.
class UnpackedInputs {
 public:
  /// Every file whose name ends in .gz or .zst is replaced by one in `folder`, made for it, with
  /// what it unpacks to; several members or frames after one another are one text. `on_bytes` hears
  /// of compressed ones. Errors name the file: corrupt when it is damaged or no such file;
  /// cancelled; those of the system.
  static Result<UnpackedInputs> create(std::vector<InputFile>& files, const std::string& folder,
                                       const OnBytes& on_bytes);
  UnpackedInputs(UnpackedInputs&& other) noexcept : folder_(std::exchange(other.folder_, {})) {}
  ~UnpackedInputs();

 private:
  UnpackedInputs() = default;
  std::string folder_;
};

}  // namespace aios::mapreduce_client
