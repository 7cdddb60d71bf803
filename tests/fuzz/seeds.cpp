// The seed corpus of a server's fuzzer.
#include <fstream>
#include <set>
#include <string>

#include "tests/fuzz/session.hpp"

namespace aios::fuzz {

namespace {

/// A sequence of steps, in the words of Session::step.
class Script {
 public:
  /// The first byte is about the region that is there from the start, which may be written. Another
  /// one follows, which may not be where the server wants it so, and a lent file.
  explicit Script(const ProtocolShape& protocol) : protocol_(protocol) {
    bytes_ = {1, 7, 0, 13, 1, 0, 0, 0, 0};
  }

  /// A call with what its fields suggest, after the records that it may name.
  void call(const MethodShape& method) {
    for (const RecordShape& record : protocol_.records) write_record(record);
    call_alone(method);
    for (const proto::FieldInfo& field : method.reply.fields)
      learnt_.insert({field.name, field.size});
  }
  /// The same without records, or with one field at each edge in turn. What the reply will also
  /// name, as a number of the server's, is sent anew.
  void call_alone(const MethodShape& method, const proto::FieldInfo* at = nullptr, char edge = 0) {
    const auto same = [](const auto& a) {
      return [&a](const auto& b) { return a.size == b.size && std::string_view(a.name) == b.name; };
    };
    const bool all = std::ranges::any_of(method.request.fields, [&](const proto::FieldInfo& field) {
      return handle_in(field) != ObjectType::none &&
             std::ranges::any_of(method.reply.fields, same(field));
    });
    bytes_ += {4, static_cast<char>(&method - protocol_.methods.data()), all ? '\0' : '\1'};
    for (const proto::FieldInfo& field : method.request.fields)
      if (handle_in(field) != ObjectType::none &&
          (all || !learnt_.contains({field.name, field.size})))
        bytes_ += '\0';
    append(method.request, at, edge);
  }
  void write_record(const RecordShape& record, const proto::FieldInfo* at = nullptr,
                    char edge = 0) {
    const auto index = static_cast<char>(&record - protocol_.records.data());
    bytes_ += {9, 0, index, static_cast<char>(7 * index)};
    append(record, at, edge);
  }
  void wait() { bytes_ += 15; }
  void write(const std::filesystem::path& path) const {
    std::ofstream(path, std::ios::binary) << bytes_;
  }

 private:
  void append(const RecordShape& shape, const proto::FieldInfo* at, char edge) {
    for (const proto::FieldInfo& field : shape.fields) {
      if (&field != at)
        bytes_ += '\0';
      else if (field.size <= sizeof(std::uint64_t))
        bytes_ += {at_edge, edge};
      else  // an array of one word
        bytes_ += {2, 0, 0, at_edge, edge};
    }
  }

  const ProtocolShape& protocol_;
  std::string bytes_;
  std::set<std::pair<std::string, std::size_t>> learnt_;  ///< what replies will have said
};

/// Whether it undoes what others did.
bool is_ending(std::string_view method) {
  for (const std::string_view word : {"close", "detach", "remove", "release", "unbind", "cancel"})
    if (method.find(word) != method.npos) return true;
  return false;
}

/// Whether it names records in memory.
bool reads_records(const MethodShape& method) {
  const auto has = [&](std::string_view name) {
    return std::ranges::any_of(method.request.fields,
                               [name](const auto& field) { return field.name == name; });
  };
  return has("offset") && has("count");
}

/// Each field of the method's request at every edge, where the call would otherwise succeed; and of
/// the records that it names.
void write_edges(const ProtocolShape& protocol, const MethodShape& method, const Script& before,
                 const std::filesystem::path& folder) {
  constexpr std::size_t between_waits = 8;
  const auto write = [&](const RecordShape& shape, const char* name, const auto& step) {
    for (const proto::FieldInfo& field : shape.fields) {
      Script script = before;
      for (std::size_t edge = 0; edge < edge_count; ++edge) {
        step(script, field, static_cast<char>(edge));
        if (edge % between_waits == 0) script.wait();
      }
      script.write(folder / ("edges-of-" + std::string(method.name) + name + "-" + field.name));
    }
  };
  write(method.request, "", [&](Script& script, const proto::FieldInfo& field, char edge) {
    script.call_alone(method, &field, edge);
  });
  if (!reads_records(method)) return;
  for (const RecordShape& record : protocol.records) {
    const std::string name = "-record-" + std::to_string(&record - protocol.records.data());
    write(record, name.c_str(), [&](Script& script, const proto::FieldInfo& field, char edge) {
      script.write_record(record, &field, edge);
      script.call_alone(method);
    });
  }
}

}  // namespace

void write_seeds(const ProtocolShape& protocol, const std::filesystem::path& folder) {
  Script all(protocol);
  for (const bool ending : {false, true}) {
    for (const MethodShape& method : protocol.methods) {
      if (is_ending(method.name) != ending) continue;
      Script alone(protocol);
      alone.call(method);
      alone.write(folder / method.name);
      write_edges(protocol, method, all, folder);
      all.call(method);
      // How far the others led.
      all.write(folder / ("up-to-" + std::string(method.name)));
    }
  }
}

}  // namespace aios::fuzz
