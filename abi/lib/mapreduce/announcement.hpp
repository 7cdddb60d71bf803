// A job that cannot be submitted yet, since its client still copies or unpacks its input, or that
// its client leads itself. The service lists it meanwhile, and whoever cancels it there ends it
// here.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "abi/lib/mapreduce/client.hpp"
#include "abi/lib/mapreduce/input.hpp"
#include "abi/lib/mapreduce/objects.hpp"
#include "abi/lib/mapreduce/unpack.hpp"
#include "abi/runtime/client.hpp"

namespace aios::mapreduce_client {

class Announcement {
 public:
  using Phase = proto::mapreduce::Phase;

  enum class Leader { service, client };
  /// `port` is a connect handle of the service. Both references outlive it. A job that its client
  /// leads goes on, unlisted, while the service is down.
  Announcement(Kernel& kernel, Handle port, const Options& options, const OnProgress& on_progress,
               Leader leader = Leader::service);
  Announcement(const Announcement&) = delete;

  /// Lists the job. quota: too many jobs; service_down; cancelled when `on_progress` said so.
  Result<void> begin(std::uint64_t input_bytes);
  /// Brings to where tasks can read it what `inputs` found: objects and compressed files go into
  /// folders of `output`, and are there as long as `inputs` and what is returned. Service and user
  /// are told how far that is; a service that dies meanwhile is told anew. Errors as of begin(),
  /// Inputs::fetch and UnpackedInputs.
  Result<UnpackedInputs> prepare(Inputs& inputs, std::vector<InputFile>& files,
                                 const OutputFolder& output);

  /// Tells user and service, the latter not too often; false when the job is to end, for `ended()`.
  bool tell(const proto::mapreduce::Progress& progress, std::uint64_t input_bytes);
  OnBytes during(Phase phase);
  const std::optional<Status>& ended() const { return ended_; }

  /// What a Submit takes it over with: the link that knows it, and its number there, 0 for none.
  struct Listed {
    std::unique_ptr<Client> client;
    std::uint64_t job = 0;
  };
  Listed take();

 private:
  Result<void> tell_service(const proto::mapreduce::Progress& progress, std::uint64_t input_bytes);

  const Options& options_;
  const OnProgress& on_progress_;
  const Leader leader_;
  Listed listed_;
  std::uint64_t tell_next_ns_ = 0;     ///< the service is not told before, of the same phase
  std::optional<std::uint32_t> told_;  ///< phase
  std::optional<Status> ended_;
};

}  // namespace aios::mapreduce_client
