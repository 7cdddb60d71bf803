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

template <class Protocol>
bool is_idempotent_of(std::uint16_t opcode) {
  return is_idempotent_in(typename Protocol::Methods{}, opcode);
}

template <class... Protocols>
IsIdempotent methods_among(std::string_view service) {
  IsIdempotent found = [](std::uint16_t) { return false; };
  ((service == Protocols::name && (found = is_idempotent_of<Protocols>, true)) || ...);
  return found;
}

}  // namespace

IsIdempotent idempotent_methods_of(std::string_view service) {
  return methods_among<proto::echo::Protocol, proto::mapreduce::Protocol,
                       proto::scheduler::Protocol, proto::storage::Protocol,
                       proto::supervisor::Protocol>(service);
}

}  // namespace aios::lib
