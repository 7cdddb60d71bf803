// Objects of storage as inputs of a MapReduce job: "aios:NAME", or "aios:PREFIX/" for all below.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "abi/lib/mapreduce/input.hpp"
#include "abi/lib/storage_client.hpp"
#include "abi/runtime/kernel.hpp"

namespace aios::mapreduce_client {

/// Finds the inputs of a job, and brings the objects among them to where tasks can read them.
///
/// Contexts have no link to storage, so objects are read through that of the client, every block
/// verified, with the client's rights. The job reads the version that was there when it began.
class Inputs {
 public:
  explicit Inputs(Kernel& kernel) : kernel_(kernel) {}
  Inputs(const Inputs&) = delete;
  /// Removes the copies.
  ~Inputs();

  /// What walk_inputs gives, with objects at their place among the files: a name gives that one, a
  /// prefix all below it, in order of their names. Objects have no path yet. not_found, naming what
  /// is missing; not_found too when the instance has no storage, and an object is asked for.
  Result<std::vector<InputFile>> find(std::span<const std::string> names);

  /// Copies the objects among what `find` gave into `folder`, made for them. `on_bytes` hears of
  /// theirs. Errors name the object: source_changed when it was replaced or removed since;
  /// corrupt; cancelled; no_space and others of the system.
  Result<void> fetch(std::vector<InputFile>& files, const std::string& folder,
                     const OnBytes& on_bytes);

 private:
  struct Object {
    std::size_t file;  ///< its place in what `find` gave
    std::string name;
    std::uint64_t version;
  };

  Result<void> connect();
  Result<void> find_object(const std::string& name, std::vector<InputFile>& files);
  Result<void> find_below(const std::string& prefix, std::vector<InputFile>& files);
  void add(const std::string& name, const StorageClient::ObjectInfo& info,
           std::vector<InputFile>& files);
  Result<void> copy(const Object& object, InputFile& file, const std::string& target,
                    const std::function<bool(std::uint64_t)>& on_copied);

  Kernel& kernel_;
  std::unique_ptr<StorageClient> storage_;
  Region memory_;
  std::vector<Object> objects_;
  std::string folder_;
};

}  // namespace aios::mapreduce_client
