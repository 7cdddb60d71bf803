#include "services/storage/names.hpp"

#include <algorithm>

namespace aios::storage {
namespace {

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

Result<> check_bytes(std::string_view text) {
  if (text.size() > max_name_bytes)
    return error(Code::invalid_argument, "the name is longer than 199 bytes");
  if (std::any_of(text.begin(), text.end(), is_control))
    return error(Code::invalid_argument, "the name contains a control byte");
  return {};
}

Result<> check_component(std::string_view component) {
  if (component.empty())
    return error(Code::invalid_argument,
                 "the name has an empty component: no '/' at either end, no \"//\"");
  if (component == "." || component == "..")
    return error(Code::invalid_argument, "the name has a component \".\" or \"..\"");
  return {};
}

/// Checks each component that a '/' ends and returns what follows the last '/'.
Result<std::string_view> check_whole_components(std::string_view text) {
  for (std::size_t slash; (slash = text.find('/')) != std::string_view::npos;) {
    TRY(check_component(text.substr(0, slash)));
    text.remove_prefix(slash + 1);
  }
  return text;
}

}  // namespace

Result<> check_object_name(std::string_view name) {
  if (name.empty()) return error(Code::invalid_argument, "the name is empty");
  TRY(check_bytes(name));
  return check_component(TRY(check_whole_components(name)));
}

Result<> check_prefix(std::string_view prefix) {
  TRY(check_bytes(prefix));
  TRY(check_whole_components(prefix));
  return {};
}

Result<> check_folder_prefix(std::string_view prefix) {
  if (prefix.empty() || prefix.back() != '/')
    return error(Code::invalid_argument, "the prefix does not end in '/'");
  return check_object_name(prefix.substr(0, prefix.size() - 1));
}

// Every server runs in a job of its own that bears its name; a context in one called `contexts`.
std::string namespace_of(const PeerInfo& peer) {
  const bool is_server = peer.role == proto::kernel::PeerRole::child && peer.name == peer.job_name;
  return is_server ? "s:" + peer.name : "u" + std::to_string(peer.uid);
}

}  // namespace aios::storage
