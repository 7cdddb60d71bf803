// Graphs of tasks for C++20; a part of aios.hpp, which includes it.
#pragma once

#include <aios/aios.hpp>

namespace aios {
inline namespace v0 {

/// Tasks whose dependencies follow from what they do to buffers; see tasks.h. Ends before its
/// tenant.
class Graph {
 public:
  explicit Graph(const Tenant& tenant, std::uint64_t timeout_ns = forever)
      : timeout_ns_(timeout_ns) {
    aios_graph* made = nullptr;
    check(aios_graph_create(tenant.get(), &made));
    graph_ = detail::Owner<aios_graph, aios_graph_free>(made);
  }
  aios_graph* get() const noexcept { return graph_.get(); }
  /// The task's number; its tag and dependencies are not used.
  std::uint32_t add(Task task) {
    std::uint32_t number = 0;
    check(aios_graph_add(get(), &task.record(), &number));
    return number;
  }
  void edge(std::uint32_t before, std::uint32_t after) {
    check(aios_graph_add_edge(get(), before, after));
  }
  /// These start together.
  void gang(std::span<const std::uint32_t> tasks) {
    check(aios_graph_gang(get(), tasks.data(), tasks.size()));
  }
  void reduction(std::uint32_t buffer, std::span<const std::uint32_t> partials,
                 std::uint32_t initialise, std::uint32_t combine) {
    check(aios_graph_set_reduction(get(), buffer, partials.data(), partials.size(), initialise,
                                   combine));
  }
  /// By CLOCK_MONOTONIC, before it is submitted.
  void deadline(std::uint64_t deadline_ns) { check(aios_graph_set_deadline(get(), deadline_ns)); }
  /// With a deadline: throws TOO_LATE when it would not be done in time.
  void submit() { check(aios_graph_submit(get(), timeout_ns_)); }
  aios_prediction predicted() const {
    aios_prediction prediction{};
    check(aios_graph_predicted(get(), &prediction));
    return prediction;
  }
  /// Its tasks may run in the cheaper variants of their codelets where it is too late otherwise.
  void permit_cheaper(bool permitted = true) {
    check(aios_graph_permit_cheaper(get(), permitted ? 1 : 0));
  }
  /// Of a graph that was refused: what would have had it done in time, if anything.
  std::optional<aios_offer> offered() const {
    aios_offer offer{};
    const aios_code code = aios_graph_offered(get(), &offer);
    if (code == AIOS_NOT_FOUND) return std::nullopt;
    check(code);
    return offer;
  }
  /// How many of its tasks failed.
  std::size_t wait(std::uint64_t timeout_ns = forever) {
    std::size_t failed = 0;
    check(aios_graph_wait(get(), timeout_ns, &failed));
    return failed;
  }
  aios_completion completion(std::uint32_t number) const {
    aios_completion completion{};
    check(aios_graph_completion(get(), number, &completion));
    return completion;
  }
  void cancel() { check(aios_graph_cancel(get(), timeout_ns_)); }

 private:
  detail::Owner<aios_graph, aios_graph_free> graph_;
  std::uint64_t timeout_ns_;
};

}  // namespace v0
}  // namespace aios
