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
# Of the documentation's addresses one /24, which no real network has.
SUBNET = "198.51.100"
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

    def __init__(self, tag: str):
        self.tag, self.bridge = tag, f"{tag}br"

    def namespace(self, worker: int) -> str:
        return f"{self.tag}n{worker}"

    def link(self, worker: int) -> str:
        """This machine's end; down cuts the worker off."""
        return f"{self.tag}v{worker}"

    def make(self, workers: int) -> None:
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{SUBNET}.1/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        for worker in range(1, workers + 1):
            name, inside = self.namespace(worker), f"{self.tag}e{worker}"
            run("ip", "netns", "add", name)
            run("ip", "link", "add", self.link(worker), "type", "veth", "peer", "name", inside)
            run("ip", "link", "set", inside, "netns", name)
            run("ip", "link", "set", self.link(worker), "master", self.bridge, "up")
            run("ip", "-n", name, "addr", "add", f"{address(worker)}/24", "dev", inside)
            run("ip", "-n", name, "link", "set", inside, "up")
            run("ip", "-n", name, "link", "set", "lo", "up")

    def remove(self, workers: int) -> None:
        for worker in range(1, workers + 1):
            subprocess.run(["ip", "netns", "del", self.namespace(worker)], capture_output=True,
                           check=False)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)


def address(worker: int) -> str:
    return f"{SUBNET}.{10 + worker}"


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

    # ---- up ----

    def up(self, workers: int, aiosctl: Path) -> None:
        if self.file.exists():
            raise Trouble(f"a cluster is in {self.folder} already; `tools/cluster down` ends it")
        self.folder.mkdir(parents=True, exist_ok=True)
        namespaces = may_have_namespaces()
        host = f"{SUBNET}.1" if namespaces else "127.0.0.1"
        self.state = {"workers": workers, "aiosctl": str(aiosctl), "host": host,
                      "network": f"aios{os.getpid() % 100000}" if namespaces else "",
                      "processes": {}}
        self.save()
        try:
            if namespaces:
                Network(self.state["network"]).make(workers)
            self.state["master"] = self.start_master(host)
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
        host = address(worker) if self.state["network"] else "127.0.0.1"
        command = [str(spark_home() / "bin/spark-class"), "org.apache.spark.deploy.worker.Worker",
                   "--host", host, "--cores", "1", "--memory", WORKER_MEMORY,
                   "--work-dir", str(self.node(worker) / "spark"), self.state["master"]]
        if self.state["network"]:
            command = ["ip", "netns", "exec", Network(self.state["network"]).namespace(worker),
                       *command]
        self.launch(f"worker-{worker}", command, {
            "SPARK_DAEMON_MEMORY": DAEMON_MEMORY, "SPARK_LOCAL_IP": host,
            "AIOS_SOCKET": str(self.node(worker) / "aios.sock")})

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
        if self.state["network"]:
            Network(self.state["network"]).remove(self.state["workers"])
        self.file.unlink(missing_ok=True)

    def environment(self) -> dict[str, str]:
        return {"AIOS_PYTHON": sys.executable, "AIOS_SPARK_MASTER": self.state["master"],
                "SPARK_LOCAL_IP": self.state["host"],
                **{name: os.environ[name] for name in ("AIOS_LIBRARY",) if name in os.environ}}


def alive(pid: int) -> bool:
    """A child of an earlier process is no child of ours: there is only its entry to look at."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


def stop(pid: int) -> None:
    """The process and, since it leads a session of its own, all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return
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
                  f"own{' and a network namespace' if cluster.state['network'] else ''}")
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
