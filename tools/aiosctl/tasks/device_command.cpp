// aiosctl devices: what computes here, and what was looked for and is not there.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "abi/proto/scheduler.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/listings.hpp"
#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

namespace {

namespace wire = proto::scheduler;
namespace driver = proto::driver;
using nlohmann::json;
using Listed = std::vector<ListedDevice>;
using Absences = std::vector<driver::Absent::Reply>;

Result<Absences> list_absences(Client& scheduler) {
  Absences all;
  for (std::uint64_t index = 0;; ++index) {
    const auto next =
        TRY(scheduler.call<wire::AbsentNext>({index}, Deadline::after(call_timeout_ns)));
    if (next.absent.count == 0) return all;
    all.push_back(next.absent);
    if (index + 1 >= next.absent.count) return all;
  }
}

/// A driver numbers the devices of one backend in the order in which they are listed.
json peers_of(std::size_t index, const Listed& all) {
  std::vector<std::size_t> alike;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i].device.backend.view() == all[index].device.backend.view()) alike.push_back(i);
  json peers = json::array();
  for (std::size_t i = 0; i < alike.size() && i < 32; ++i)
    if ((all[index].device.peers >> i & 1) != 0) peers.push_back(alike[i]);
  return peers;
}

json text_or_null(std::string_view text) {
  return text.empty() ? json(nullptr) : json(text);
}

json topology_of(std::size_t index, const Listed& all) {
  const driver::Device::Reply& d = all[index].device;
  return {{"cores", d.cores},
          {"threads", d.threads},
          {"queue_depth", d.queue_depth},
          {"cache_bytes", d.cache_bytes},
          {"numa_nodes", d.numa_nodes},
          {"numa_node", d.numa_node == driver::no_numa_node ? json(nullptr) : json(d.numa_node)},
          {"pci_address", text_or_null(d.pci_address.view())},
          {"peers", peers_of(index, all)}};
}

json copies_of(const ListedDevice& listed) {
  if (listed.device.own_memory == 0) return nullptr;
  constexpr double mib = 1u << 20;
  const auto way = [&](int i) -> json {
    // Bytes per nanosecond are GB per second.
    return {{"latency_us", listed.copy_latency_ns[i] / 1e3},
            {"gb_per_s", listed.copy_ns_per_mib[i] > 0 ? mib / listed.copy_ns_per_mib[i] : 0}};
  };
  return {{"samples", listed.copies}, {"to_device", way(0)}, {"to_host", way(1)}};
}

json to_json(std::size_t index, const Listed& all) {
  const driver::Device::Reply& d = all[index].device;
  return {{"index", index},
          {"kind", d.kind.view()},
          {"backend", d.backend.view()},
          {"name", d.model.view()},
          {"uuid", d.uuid.view()},
          {"memory_bytes", d.memory_bytes},
          {"health", health_name(all[index])},
          {"reason", text_or_null(d.reason.view())},
          {"emulated", d.emulated != 0},
          {"topology", topology_of(index, all)},
          {"utilisation", d.busy_permille == driver::unknown_utilisation
                              ? json(nullptr)
                              : json(d.busy_permille / 1000.0)},
          {"temperature_celsius", d.millicelsius == driver::unknown_temperature
                                      ? json(nullptr)
                                      : json(d.millicelsius / 1000.0)},
          {"copies", copies_of(all[index])},
          {"contexts", d.contexts},
          {"faults", d.faults},
          {"restarts", d.context_restarts},
          {"tasks_done", all[index].tasks_done},
          {"tasks_failed", all[index].tasks_failed},
          {"busy_ns", all[index].busy_ns}};
}

json to_json(const Listed& devices, const Absences& absences) {
  json out = {{"devices", json::array()}, {"missing", json::array()}};
  for (std::size_t i = 0; i < devices.size(); ++i) out["devices"].push_back(to_json(i, devices));
  for (const driver::Absent::Reply& one : absences)
    out["missing"].push_back(
        {{"backend", one.backend.view()}, {"why", one.why.view()}, {"advice", one.advice.view()}});
  return out;
}

void print_table(const Listed& devices) {
  Table table({{"DEVICE"},
               {"BACKEND"},
               {"NAME"},
               {"HEALTH"},
               {"THREADS", Align::right},
               {"MEMORY", Align::right},
               {"LOAD", Align::right},
               {"TEMP", Align::right},
               {"CONTEXTS", Align::right},
               {"FAULTS", Align::right},
               {"RESTARTS", Align::right},
               {"DONE", Align::right},
               {"FAILED", Align::right},
               {"TASK TIME", Align::right}});
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const driver::Device::Reply& d = devices[i].device;
    table.add({fmt::format("{}{}", d.kind.view(), i),
               fmt::format("{}{}", d.backend.view(), d.emulated != 0 ? " (emulated)" : ""),
               std::string(d.model.view()), std::string(health_name(devices[i])),
               std::to_string(d.threads), human_bytes(d.memory_bytes),
               d.busy_permille == driver::unknown_utilisation
                   ? "-"
                   : fmt::format("{:.0f}%", d.busy_permille / 10.0),
               d.millicelsius == driver::unknown_temperature
                   ? "-"
                   : fmt::format("{:.0f} C", d.millicelsius / 1000.0),
               std::to_string(d.contexts), std::to_string(d.faults),
               std::to_string(d.context_restarts), std::to_string(devices[i].tasks_done),
               std::to_string(devices[i].tasks_failed), human_duration(devices[i].busy_ns)});
  }
  table.print();
}

void print(const Listed& devices, const Absences& absences) {
  print_table(devices);
  for (std::size_t i = 0; i < devices.size(); ++i)
    if (const driver::Device::Reply& d = devices[i].device; !d.reason.view().empty())
      print_to(stdout, "{}{}: {}\n", printable(d.kind.view()), i, printable(d.reason.view()));
  if (absences.empty()) return;
  print_to(stdout, "\nLooked for and not there:\n");
  for (const driver::Absent::Reply& one : absences)
    print_to(stdout, "  {}: {}\n      {}\n", printable(one.backend.view()),
             printable(one.why.view()), printable(one.advice.view()));
}

Result<int> show_devices(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  const auto scheduler = TRY(attached.client(wire::Protocol::name, wire::Protocol::version));
  const Listed devices = TRY(list_devices(*scheduler));
  const Absences absences = TRY(list_absences(*scheduler));
  if (session.json)
    print_json(to_json(devices, absences));
  else
    print(devices, absences);
  return exit_done;
}

}  // namespace

void add_device_commands(CLI::App& app, Session& session) {
  CLI::App* devices =
      app.add_subcommand("devices", "What computes here, and what is missing and why");
  devices->footer(
      "LOAD is how much of the device was in use of late, by anybody; TASK TIME how long AIOS's "
      "tasks "
      "have run on it, added up.");
  devices->add_flag("--json", session.json, "As JSON (abi/schema/devices.json)");
  devices->callback([&session] {
    session.action = [&session] { return run_command([&] { return show_devices(session); }); };
  });
}

}  // namespace aios::ctl
