#include "drivers/gpu/look/search.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "drivers/gpu/open_gpu.hpp"

namespace aios::gpu {

namespace {

namespace fs = std::filesystem;

constexpr const char* default_vendors = "/etc/OpenCL/vendors";
constexpr std::size_t max_icds = 16;

constexpr const char* cuda_advice =
    "for an NVIDIA GPU install its driver (Debian: nvidia-driver and libcuda1); in a container, "
    "let "
    "it see the GPU";
constexpr const char* managed_memory_advice =
    "the node /dev/nvidia-uvm is missing: as root, nvidia-modprobe -u -c=0; then: aiosctl restart "
    "gpu";
constexpr const char* opencl_advice =
    "install an OpenCL driver: that of the GPU's vendor, or pocl-opencl-icd for the processor";
constexpr const char* loader_advice =
    "install the loader of OpenCL drivers (Debian: ocl-icd-libopencl1) and a driver such as "
    "pocl-opencl-icd";

/// "driver pocl.icd", or "the CUDA driver".
std::string name_of(const Place& place) {
  if (place.backend == "cuda") return "the CUDA driver";
  if (place.icd.empty()) return "OpenCL";
  return "the OpenCL driver of " + fs::path(place.icd).filename().string();
}

Findings missing(const Place& place, const std::string& why, const std::string& advice) {
  return {{}, {{place.backend, why, advice}}};
}

/// Its library makes the nodes of the driver, but only for root, and that one not always.
const char* advice_on_cuda() {
  const auto is_there = [](const char* path) { return ::access(path, F_OK) == 0; };
  return is_there("/dev/nvidiactl") && !is_there("/dev/nvidia-uvm") ? managed_memory_advice
                                                                    : cuda_advice;
}

Findings look_for_cuda(const Place& place) {
  auto found = discover_cuda();
  if (!found) return missing(place, found.error().message(), advice_on_cuda());
  return {std::move(*found), {}};
}

fs::path vendors_folder() {
  const char* const named = std::getenv("OCL_ICD_VENDORS");
  return named != nullptr ? named : default_vendors;
}

Findings without_opencl_driver(const Place& place) {
  const auto loader = load("opencl");
  if (!loader) return missing(place, loader.error().message(), loader_advice);
  std::error_code failure;
  const fs::directory_iterator readable(vendors_folder(), failure);
  if (failure && failure != std::errc::no_such_file_or_directory)
    return missing(place, "cannot read " + vendors_folder().string() + ": " + failure.message(),
                   "make it readable for the user that AIOS runs as; then: aiosctl restart gpu");
  return missing(place, "no OpenCL driver is installed", opencl_advice);
}

/// The first line of an ICD file names a library. Loaded here, since the loader of OpenCL drivers
/// passes over one that it cannot load in silence.
Result<std::string> library_of(const Place& place) {
  std::ifstream file(place.icd);
  std::string name;
  std::getline(file, name);
  while (!name.empty() && (name.back() == ' ' || name.back() == '\r')) name.pop_back();
  if (name.empty()) return error(Code::not_found, place.icd + " names no library");
  if (::dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL) == nullptr)
    return error(Code::not_found, place.icd + " names a driver that does not load: " + ::dlerror());
  return name;
}

Findings look_for_opencl(const Place& place) {
  if (place.icd.empty()) return without_opencl_driver(place);
  const auto library = library_of(place);
  if (!library)
    return missing(place, library.error().message(),
                   "install the package that has it, or remove " + place.icd);
  for (const std::string& assignment : opencl_environment(*library))
    (void)set_environment(assignment);
  const auto loader = load("opencl");
  if (!loader) return missing(place, loader.error().message(), loader_advice);
  auto found = discover_opencl();
  if (!found) return missing(place, name_of(place) + ": " + found.error().message(), opencl_advice);
  for (DeviceInfo& info : *found) info.library = *library;
  return {std::move(*found), {}};
}

}  // namespace

std::vector<Place> places() {
  std::vector<Place> all{{"cuda", ""}};
  const fs::path vendors = vendors_folder();
  std::error_code failure;
  std::vector<std::string> icds;
  if (fs::is_regular_file(vendors, failure)) icds.push_back(vendors.string());
  for (fs::directory_iterator at(vendors, failure); !failure && at != fs::directory_iterator();
       at.increment(failure))
    if (at->path().extension() == ".icd") icds.push_back(at->path().string());
  std::ranges::sort(icds);
  if (icds.size() > max_icds) icds.resize(max_icds);
  for (std::string& icd : icds) all.push_back({"opencl", std::move(icd)});
  if (icds.empty()) all.push_back({"opencl", ""});
  return all;
}

Findings look(const Place& place) {
  return place.backend == "cuda" ? look_for_cuda(place) : look_for_opencl(place);
}

device::Absence unusable(const Place& place, const std::string& how) {
  return {
      place.backend, name_of(place) + " " + how,
      place.icd.empty()
          ? std::string("look at dmesg and restart the machine's driver; then: aiosctl restart gpu")
          : "repair or remove " + place.icd + "; then: aiosctl restart gpu"};
}

Findings together(std::vector<Findings> found) {
  Findings all;
  for (Findings& one : found) all.merge(std::move(one));
  const bool has_cuda = std::ranges::any_of(
      all.devices, [](const DeviceInfo& info) { return info.backend == "cuda" && !info.emulated; });
  if (has_cuda)
    std::erase_if(all.devices, [](const DeviceInfo& info) {
      return info.backend == "opencl" && info.model.find("NVIDIA") != std::string::npos;
    });
  return all;
}

}  // namespace aios::gpu
