// A job that cannot be submitted yet: its client still copies or unpacks its input. The service
// lists it meanwhile, and whoever cancels it there ends it here.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "abi/lib/mapreduce_client.hpp"
#include "abi/lib/mapreduce_input.hpp"
#include "abi/lib/mapreduce_objects.hpp"
#include "abi/lib/mapreduce_unpack.hpp"
#include "abi/runtime/client.hpp"

namespace aios::mapreduce_client {

class Announcement {
 public:
  using Phase = proto::mapreduce::Phase;

  /// `port` is a connect handle of the service. Both references outlive it.
  Announcement(Kernel& kernel, Handle port, const Options& options, const OnProgress& on_progress);
  Announcement(const Announcement&) = delete;

  /// Lists the job. quota: too many jobs; service_down; cancelled when `on_progress` said so.
  Result<void> begin(std::uint64_t input_bytes);
  /// Brings to where tasks can read it what `inputs` found: objects and compressed files go into
  /// folders of `output`, and are there as long as `inputs` and what is returned. Service and user
  /// are told how far that is; a service that dies meanwhile is told anew. Errors as of begin(),
  /// Inputs::fetch and UnpackedInputs.
  Result<UnpackedInputs> prepare(Inputs& inputs, std::vector<InputFile>& files,
                                 const OutputFolder& output);

  /// What a Submit takes it over with: the link that knows it, and its number there, 0 for none.
  struct Listed {
    std::unique_ptr<Client> client;
    std::uint64_t job = 0;
  };
  Listed take();

 private:
  bool tell(Phase phase, std::uint64_t done_bytes, std::uint64_t all_bytes);
  OnBytes during(Phase phase);
  Result<void> tell_service(Phase phase, std::uint64_t done_bytes, std::uint64_t all_bytes);

  const Options& options_;
  const OnProgress& on_progress_;
  Listed listed_;
  std::uint64_t tell_next_ns_ = 0;  ///< the service is not told before, of the same phase
  std::optional<Phase> told_;
  std::optional<Status> ended_;
};

}  // namespace aios::mapreduce_client
