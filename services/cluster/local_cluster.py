"""A Spark cluster of its own on this machine: a master and workers, each with its own AIOS.

    local_cluster.py up N --folder F --aiosctl PATH    local_cluster.py down --folder F
    local_cluster.py env --folder F                    what to export for jobs

For trying things out and for the tests: N workers on one machine show that a job survives the loss of
any of them, not that it gets faster. As root each worker has a network namespace of its own, so that
its network can be cut; otherwise they share the machine's loopback. Started by tools/cluster.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyspark

READY_S = 120.0
STOP_S = 20.0
MAX_WORKERS = 64
WORKER_MEMORY = "1g"
# Of these a cluster takes the first whose addresses this machine does not have yet.
SUBNETS = [f"10.213.{number}" for number in range(256)]
DAEMON_MEMORY = "256m"
# A worker that is cut off is given up after so long; a real cluster waits longer.
WORKER_TIMEOUT_S = 15


class Trouble(Exception):
    """Told to the user as it is."""


def run(*command: str | Path, **more: Any) -> str:
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False,
                          **more)
    if done.returncode != 0:
        raise Trouble(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return str(done.stdout)


def spark_home() -> Path:
    return Path(pyspark.__file__).parent


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Network:
    """Namespaces, one a worker, on a bridge that is this machine's end."""

    def __init__(self, tag: str, subnet: str):
        self.tag, self.subnet, self.bridge = tag, subnet, f"{tag}br"

    def address(self, worker: int) -> str:
        return f"{self.subnet}.{10 + worker}"

    def namespace(self, worker: int) -> str:
        return f"{self.tag}n{worker}"

    def link(self, worker: int) -> str:
        """This machine's end; down cuts the worker off."""
        return f"{self.tag}v{worker}"

    def make(self, workers: int) -> None:
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.subnet}.1/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        for worker in range(1, workers + 1):
            name, inside = self.namespace(worker), f"{self.tag}e{worker}"
            run("ip", "netns", "add", name)
            run("ip", "link", "add", self.link(worker), "type", "veth", "peer", "name", inside)
            run("ip", "link", "set", inside, "netns", name)
            run("ip", "link", "set", self.link(worker), "master", self.bridge, "up")
            run("ip", "-n", name, "addr", "add", f"{self.address(worker)}/24", "dev", inside)
            run("ip", "-n", name, "link", "set", inside, "up")
            run("ip", "-n", name, "link", "set", "lo", "up")

    def remove(self, workers: int) -> None:
        for worker in range(1, workers + 1):
            subprocess.run(["ip", "netns", "del", self.namespace(worker)], capture_output=True,
                           check=False)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)


def free_subnet() -> str:
    used = run("ip", "-o", "-4", "addr")
    for subnet in SUBNETS:
        if f" {subnet}." not in used:
            return subnet
    raise Trouble(f"this machine has addresses in all of {SUBNETS[0]}.0 to {SUBNETS[-1]}.0")


def may_have_namespaces() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    probe = f"aiosp{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return made.returncode == 0


class Cluster:
    """What is on disk of one: F/cluster.json, F/node-I (state of its AIOS), logs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.file = folder / "cluster.json"
        self.state: dict[str, Any] = {}

    def load(self) -> None:
        try:
            self.state = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Trouble(f"there is no cluster in {self.folder}") from None

    def save(self) -> None:
        self.file.write_text(json.dumps(self.state, indent=2) + "\n", encoding="utf-8")

    def network(self) -> Network | None:
        """None where the workers share this machine's."""
        name = self.state.get("network")
        return Network(name, self.state["subnet"]) if name else None

    # ---- up ----

    def up(self, workers: int, aiosctl: Path) -> None:
        if self.file.exists():
            raise Trouble(f"a cluster is in {self.folder} already; `tools/cluster down` ends it")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = {"workers": workers, "aiosctl": str(aiosctl.absolute()), "host": "127.0.0.1",
                      "processes": {}}
        if may_have_namespaces():
            # A bridge's name has at most 15 characters.
            self.state |= {"network": f"aios{os.getpid() % 10**7}", "subnet": free_subnet()}
            self.state["host"] = f"{self.state['subnet']}.1"
        self.save()
        try:
            if network := self.network():
                network.make(workers)
            self.state["master"] = self.start_master(self.state["host"])
            for worker in range(1, workers + 1):
                self.boot(worker)
                self.start_worker(worker)
            self.await_workers(workers)
        except BaseException:
            self.down()
            raise

    def launch(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env={**os.environ, **environment}, start_new_session=True)
        self.state["processes"][name] = started.pid
        self.save()

    def start_master(self, host: str) -> str:
        port, web = free_port(host), free_port(host)
        self.state["web"] = f"http://{host}:{web}/json/"
        self.launch("master", [
            str(spark_home() / "bin/spark-class"), "org.apache.spark.deploy.master.Master",
            "--host", host, "--port", str(port), "--webui-port", str(web)],
            {"SPARK_DAEMON_MEMORY": DAEMON_MEMORY, "SPARK_LOCAL_IP": host,
             "SPARK_MASTER_OPTS": f"-Dspark.worker.timeout={WORKER_TIMEOUT_S}"})
        return f"spark://{host}:{port}"

    def node(self, worker: int) -> Path:
        return self.folder / f"node-{worker}"

    def boot(self, worker: int) -> None:
        run(self.state["aiosctl"], "--state", self.node(worker), "boot", "--detach")

    def start_worker(self, worker: int) -> None:
        network = self.network()
        host = network.address(worker) if network else self.state["host"]
        command = [str(spark_home() / "bin/spark-class"), "org.apache.spark.deploy.worker.Worker",
                   "--host", host, "--cores", "1", "--memory", WORKER_MEMORY,
                   "--work-dir", str(self.node(worker) / "spark"), self.state["master"]]
        if network:
            command = ["ip", "netns", "exec", network.namespace(worker), *command]
        self.launch(f"worker-{worker}", command, {
            "SPARK_DAEMON_MEMORY": DAEMON_MEMORY, "SPARK_LOCAL_IP": host,
            "AIOS_SOCKET": str(self.node(worker) / "aios.sock"), "AIOSCTL": self.state["aiosctl"]})

    def await_workers(self, wanted: int) -> None:
        """The master lists those that have registered."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            for name, pid in self.state["processes"].items():
                if not alive(pid):
                    raise Trouble(f"Spark's {name} has ended; {self.folder / name}.log says why")
            try:
                with urllib.request.urlopen(self.state["web"], timeout=5) as answer:
                    if json.load(answer)["aliveworkers"] >= wanted:
                        return
            except (OSError, ValueError):
                pass  # not there yet
            time.sleep(0.2)
        raise Trouble(f"the workers are not there after {READY_S:.0f} s; see {self.folder}/*.log")

    # ---- down ----

    def down(self) -> None:
        for pid in self.state["processes"].values():
            stop(pid)
        for worker in range(1, self.state["workers"] + 1):
            if (self.node(worker) / "aios.sock").exists():
                subprocess.run([self.state["aiosctl"], "--state", str(self.node(worker)),
                                "shutdown"], capture_output=True, check=False)
        if network := self.network():
            network.remove(self.state["workers"])
        self.file.unlink(missing_ok=True)

    def environment(self) -> dict[str, str]:
        return {"AIOS_PYTHON": sys.executable, "AIOS_SPARK_MASTER": self.state["master"],
                "SPARK_LOCAL_IP": self.state["host"],
                **{name: os.environ[name] for name in ("AIOS_LIBRARY",) if name in os.environ}}


def alive(pid: int) -> bool:
    """Started by an earlier process it is nobody's child here, and may stay a zombie for long."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def stop(pid: int) -> None:
    """The process and, since it leads a session of its own, all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return  # not even a zombie of it is left
        deadline = time.monotonic() + STOP_S
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/cluster")
    actions = parser.add_subparsers(required=True, dest="action")
    for name in ("up", "down", "env"):
        action = actions.add_parser(name)
        action.add_argument("--folder", type=Path, required=True)
        if name == "up":
            action.add_argument("workers", type=int)
            action.add_argument("--aiosctl", type=Path, required=True)
    chosen = parser.parse_args()
    cluster = Cluster(chosen.folder.absolute())
    try:
        if chosen.action == "up":
            if not 1 <= chosen.workers <= MAX_WORKERS:
                raise Trouble(f"1 to {MAX_WORKERS} workers")
            cluster.up(chosen.workers, chosen.aiosctl.absolute())
            print(f"{chosen.workers} workers at {cluster.state['master']}, each with an AIOS of its "
                  f"own{' and a network namespace' if cluster.network() else ''}")
        else:
            cluster.load()
        if chosen.action == "down":
            cluster.down()
        else:
            for name, value in cluster.environment().items():
                print(f"export {name}={value}")
        return 0
    except Trouble as trouble:
        print(f"tools/cluster: {trouble}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
