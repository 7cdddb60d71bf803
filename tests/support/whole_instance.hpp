// An instance with every server that publishes a port.
#pragma once

namespace aios::test {

inline constexpr const char* whole_instance = R"(
[server.storage]
binary = "aios-storage"
publish = true

[server.cpu]
binary = "aios-cpu"
spawner = { binary = "aios-cpu-context", profile = "context", label = "spawner:context" }

[server.scheduler]
binary = "aios-scheduler"
routes = ["cpu"]
publish = true

[server.mapreduce]
binary = "aios-mapreduce"
routes = ["scheduler", "storage"]
publish = true

[server.echo]
binary = "aios-echo"
publish = true
)";

}  // namespace aios::test
