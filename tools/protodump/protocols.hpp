// The protocols that protocols.lock records. A new protocol is an #include and one line in the
// list; behind it stand the structs that its messages contain, or name in shared memory.
#pragma once

#include "abi/proto/device.hpp"
#include "abi/proto/echo.hpp"
#include "abi/proto/kernel.hpp"
#include "abi/proto/link.hpp"
#include "abi/proto/mapreduce.hpp"
#include "abi/proto/scheduler.hpp"
#include "abi/proto/storage.hpp"
#include "abi/proto/supervisor.hpp"
#include "abi/proto/trainer.hpp"
#include "tools/protodump/entry.hpp"

namespace aios::protodump {

/// What every link has in common, as if it were a protocol without methods.
struct LinkLayout {
  static constexpr const char* name = "link";
  static constexpr std::uint16_t version = 3;
  using Methods = proto::MethodList<>;
};

namespace px = proto::context;
namespace pk = proto::kernel;
namespace pm = proto::memory;
namespace ps = proto::scheduler;

// clang-format off
using AllProtocols = EntryList<
    Entry<LinkLayout,
          Record<"message_header", proto::MessageHeader>, Record<"reply_header", proto::ReplyHeader>,
          Constant<"slot_count", proto::slot_count>,
          Constant<"slot_payload_bytes", proto::slot_payload_bytes>,
          Constant<"half_bytes", proto::half_bytes>,
          Constant<"half_consumed_offset", offsetof(proto::HalfHeader, consumed)>,
          Constant<"half_stalled_offset", offsetof(proto::HalfHeader, stalled)>,
          Constant<"status_sleep_offset", offsetof(proto::StatusPage, sleep)>,
          Constant<"status_core_offset", offsetof(proto::StatusPage, core)>,
          Constant<"sleep_begins", proto::sleep_begins>,
          Constant<"sleep_ends", proto::sleep_ends>>,
    Entry<pk::Protocol,
          Record<"call_header", pk::CallHeader>, Record<"kernel_reply", pk::KernelReply>,
          Record<"quota", pk::Quota>, Record<"startup_entry", pk::Startup::Entry>,
          Record<"spawn_handle", pk::SpawnHandle>, Record<"send_entry", pk::LinkSend::Entry>>,
    Entry<proto::supervisor::Protocol>,
    Entry<proto::driver::Protocol>,
    Entry<px::Protocol,
          Record<"buffer_use", px::BufferUse>, Record<"file_split_header", px::FileSplitHeader>,
          Record<"file_piece", px::FilePiece>>,
    Entry<pm::Protocol,
          Record<"allocation_request", pm::AllocationRequest>,
          Record<"allocation_reply", pm::AllocationReply>>,
    Entry<ps::Protocol,
          Record<"task_record", ps::TaskRecord>, Record<"completion", ps::Completion>>,
    Entry<proto::storage::Protocol, Record<"object_info", proto::storage::ObjectInfo>>,
    Entry<proto::trainer::Protocol>,
    Entry<proto::mapreduce::Protocol, Record<"progress", proto::mapreduce::Progress>>,
    Entry<proto::echo::Protocol>>;
// clang-format on

}  // namespace aios::protodump
