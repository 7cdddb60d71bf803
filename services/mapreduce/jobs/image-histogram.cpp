// image-histogram: decodes its images. What is done with their pixels is led by the client
// (abi/lib/mapreduce/image_job.cpp) and computed by the codelets of image.kc and vector.kc, which
// this module brings along.
#include <aios/mapreduce.hpp>
#include <cstdint>
#include <cstdio>

#include "services/mapreduce/jobs/image_decode.hpp"

[[gnu::section(".aios.device_job"), gnu::used]] static const char device_job[] = "image-histogram";

/// libpng and the error handler of libjpeg that is replaced were compiled for programs, and reach
/// for stderr as only these can. The linker gives them this instead (meson.build); nothing writes
/// to it.
extern "C" {
FILE* aios_no_stderr = nullptr;
}

namespace {

namespace engine = aios::mapreduce::engine;
using aios::mapreduce::Failure;

struct ProbeArguments {
  std::uint64_t reserved;
};
struct DecodeArguments {
  std::uint32_t width;
  std::uint32_t height;
};

aios::images::File file_of(const aios_buffer& buffer) {
  if (buffer.file_count != 1) throw Failure("an image is one file");
  return {buffer.files[0].fd, buffer.files[0].file_size};
}

/// Buffers: the file. Results: width and height.
void probe(const aios_task& task, const ProbeArguments&) {
  const aios::images::Size size = aios::images::read_size(file_of(task.buffers[0]));
  task.result[0] = size.width;
  task.result[1] = size.height;
}

/// Buffers: the pixels (write), three bytes each; the file.
void decode(const aios_task& task, const DecodeArguments& arguments) {
  const aios::images::Size size{arguments.width, arguments.height};
  if (task.buffers[0].size != size.width * size.height * 3)
    throw Failure("the room for the pixels has another size");
  aios::images::decode(file_of(task.buffers[1]), size,
                       static_cast<std::uint8_t*>(task.buffers[0].data));
}

std::int32_t probe_task(const aios_task* task) {
  return engine::guarded<ProbeArguments>(task, 1, probe);
}
std::int32_t decode_task(const aios_task* task) {
  return engine::guarded<DecodeArguments>(task, 2, decode);
}

constexpr aios_codelet codelets[] = {{"probe", probe_task}, {"decode", decode_task}};

}  // namespace

extern "C" AIOS_EXPORT const aios_module_table aios_module = {AIOS_CODELET_ABI, 2, codelets};
