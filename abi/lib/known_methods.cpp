#include "abi/lib/known_methods.hpp"

#include "abi/proto/echo.hpp"
#include "abi/proto/mapreduce.hpp"
#include "abi/proto/scheduler.hpp"
#include "abi/proto/storage.hpp"
#include "abi/proto/supervisor.hpp"

namespace aios::lib {

namespace {

template <class... Ms>
bool is_idempotent_in(proto::MethodList<Ms...>, std::uint16_t opcode) {
  return ((Ms::opcode == opcode && proto::is_idempotent<Ms>()) || ...);
}

template <class... Protocols>
bool is_idempotent_of(std::string_view service, std::uint16_t opcode) {
  return ((service == Protocols::name && is_idempotent_in(typename Protocols::Methods{}, opcode)) ||
          ...);
}

}  // namespace

bool is_known_idempotent(std::string_view service, std::uint16_t opcode) {
  return is_idempotent_of<proto::echo::Protocol, proto::mapreduce::Protocol,
                          proto::scheduler::Protocol, proto::storage::Protocol,
                          proto::supervisor::Protocol>(service, opcode);
}

}  // namespace aios::lib
