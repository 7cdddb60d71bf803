#include "tools/metrics/listener.hpp"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <memory>

#include "tools/aiosctl/watch/open_metrics.hpp"

namespace aios::metrics {

namespace {

constexpr unsigned most_connections = 256;
constexpr unsigned most_silence_s = 10;
constexpr int most_waiting = 16;
constexpr const char* text_type = "text/plain; charset=utf-8";

struct AddressParts {
  std::string host;
  std::string port;
};

AddressParts parts_of(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) return {"127.0.0.1", address};
  std::string host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  return {host, address.substr(colon + 1)};
}

MHD_Result handle(void* self, MHD_Connection* connection, const char* path, const char* method,
                  const char*, const char*, std::size_t* upload_bytes, void** seen) {
  // First it asks whether to go on; then come pieces of what the client sends, which are ignored.
  if (*seen == nullptr) {
    *seen = self;
    return MHD_YES;
  }
  if (*upload_bytes != 0) {
    *upload_bytes = 0;
    return MHD_YES;
  }
  const auto answer = static_cast<Listener*>(self)->answer(method, path);
  MHD_Response* const response = MHD_create_response_from_buffer(
      answer.text.size(), const_cast<char*>(answer.text.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.type);
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
  if (answer.status == MHD_HTTP_METHOD_NOT_ALLOWED)
    MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
  const MHD_Result queued = MHD_queue_response(connection, answer.status, response);
  MHD_destroy_response(response);
  return queued;
}

}  // namespace

Result<Fd> listen_at(const std::string& address) {
  const auto [host, port] = parts_of(address);
  std::uint16_t number = 0;
  const auto [end, bad] = std::from_chars(port.data(), port.data() + port.size(), number);
  const bool is_port = bad == std::errc() && end == port.data() + port.size();
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  // An empty host would mean all of the machine's addresses: that is to be said.
  if (host.empty() || !is_port || ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0)
    return error(Code::invalid_argument, "'" + address +
                                             "' is neither a port nor ADDRESS:PORT of this "
                                             "machine, such as 9464 or 192.0.2.1:9464");
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> all(found, ::freeaddrinfo);
  // A name may have several; the first that is this machine's own.
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    Fd socket(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int yes = 1;
    if (socket.valid()) ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (socket.valid() && ::bind(socket.get(), one->ai_addr, one->ai_addrlen) == 0 &&
        ::listen(socket.get(), most_waiting) == 0)
      return socket;
  }
  return errno_error("listen at " + address, errno);
}

Result<std::string> address_of(const Fd& socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  auto* const plain = reinterpret_cast<sockaddr*>(&address);
  if (::getsockname(socket.get(), plain, &length) != 0)
    return errno_error("ask for the socket's address", errno);
  if (const int failure = ::getnameinfo(plain, length, host, sizeof host, port, sizeof port,
                                        NI_NUMERICHOST | NI_NUMERICSERV);
      failure != 0)
    return error(Code::internal, ::gai_strerror(failure));
  return (std::strchr(host, ':') != nullptr ? "[" + std::string(host) + "]" : std::string(host)) +
         ":" + port;
}

Result<void> Listener::start(Fd socket, ctl::Session session) {
  // Both live until the program ends: the daemon's thread may be in a call that nobody can end.
  auto* const listener = new Listener(std::move(session));
  MHD_Daemon* const daemon = MHD_start_daemon(
      MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, nullptr, nullptr, &handle, listener,
      MHD_OPTION_LISTEN_SOCKET, socket.get(), MHD_OPTION_CONNECTION_LIMIT, most_connections,
      MHD_OPTION_CONNECTION_TIMEOUT, most_silence_s, MHD_OPTION_END);
  if (daemon == nullptr) return error(Code::io_error, "libmicrohttpd cannot answer at that socket");
  (void)socket.release();  // it closes it
  return {};
}

Listener::Answer Listener::answer(std::string_view method, std::string_view path) {
  if (method != MHD_HTTP_METHOD_GET && method != MHD_HTTP_METHOD_HEAD)
    return {MHD_HTTP_METHOD_NOT_ALLOWED, text_type, "only GET is answered here\n"};
  if (path != "/metrics")
    return {MHD_HTTP_NOT_FOUND, text_type, "AIOS: the numbers are at /metrics\n"};
  const auto snapshot = look();
  if (!snapshot)
    return {MHD_HTTP_SERVICE_UNAVAILABLE, text_type, snapshot.error().message() + "\n"};
  return {MHD_HTTP_OK, ctl::open_metrics_type, ctl::to_open_metrics(*snapshot)};
}

/// What was attached to may be gone, and another instance there by now.
Result<ctl::Snapshot> Listener::look() {
  if (watcher_)
    if (auto seen = watcher_->look()) return seen;
  watcher_.reset();
  watcher_ = TRY(ctl::Watcher::attach(session_));
  return watcher_->look();
}

}  // namespace aios::metrics
