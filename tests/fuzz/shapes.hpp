// The layout of a protocol as values, taken from its method list: what the fuzzers are generated
// from. A method or protocol that is added is fuzzed without a line of code for it.
#pragma once

#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "abi/proto/wire.hpp"
#include "tools/protodump/protocols.hpp"

namespace aios::fuzz {

struct RecordShape {
  std::size_t size;
  std::span<const proto::FieldInfo> fields;
};

struct MethodShape {
  std::uint16_t opcode;
  const char* name;
  RecordShape request;
  RecordShape reply;
  /// Of a whole request so many bytes are sent (proto::Trimmed).
  std::size_t (*sent_bytes)(std::span<const std::byte> request);
  /// Whether what was sent is a request of this method.
  bool (*takes)(std::span<const std::byte> sent);
  /// A reply as it was before its end was left out; what is none stays what it is.
  std::vector<std::byte> (*whole_reply)(std::span<const std::byte> sent);
};

struct ProtocolShape {
  const char* name;
  std::uint16_t version;
  std::vector<MethodShape> methods;
  std::vector<RecordShape> records;  ///< that its messages name in shared memory
};

template <class T>
inline constexpr auto fields_of = T::fields();

template <class T>
RecordShape record_shape() {
  return {sizeof(T), fields_of<T>};
}

template <class M>
std::size_t sent_bytes(std::span<const std::byte> bytes) {
  typename M::Request request;
  std::memcpy(&request, bytes.data(), sizeof request);
  return proto::bytes_to_send<M>(request).size();
}

template <class M>
bool takes(std::span<const std::byte> sent) {
  typename M::Request request;
  return proto::take_bytes<M>(sent, request);
}

template <class M>
std::vector<std::byte> whole_reply(std::span<const std::byte> sent) {
  typename M::Reply reply;
  if (proto::take_bytes<M>(sent, reply)) sent = std::as_bytes(std::span(&reply, 1));
  return {sent.begin(), sent.end()};
}

template <class... Ms>
std::vector<MethodShape> method_shapes(proto::MethodList<Ms...>) {
  return {{Ms::opcode, Ms::name, record_shape<typename Ms::Request>(),
           record_shape<typename Ms::Reply>(), sent_bytes<Ms>, takes<Ms>, whole_reply<Ms>}...};
}

template <class Part>
inline void add_record(std::vector<RecordShape>&, Part) {}
template <protodump::Literal Name, class T>
void add_record(std::vector<RecordShape>& to, protodump::Record<Name, T>) {
  to.push_back(record_shape<T>());
}

template <class Wanted, class Protocol, class... Parts>
void add_records(std::vector<RecordShape>& to, protodump::Entry<Protocol, Parts...>) {
  if constexpr (std::is_same_v<Wanted, Protocol>) (add_record(to, Parts{}), ...);
}
template <class Wanted, class... Entries>
std::vector<RecordShape> records_of(protodump::EntryList<Entries...>) {
  std::vector<RecordShape> records;
  (add_records<Wanted>(records, Entries{}), ...);
  return records;
}

template <class Protocol>
ProtocolShape protocol_shape() {
  return {Protocol::name, Protocol::version, method_shapes(typename Protocol::Methods{}),
          records_of<Protocol>(protodump::AllProtocols{})};
}

}  // namespace aios::fuzz
