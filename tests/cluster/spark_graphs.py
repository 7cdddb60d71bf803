"""Graphs of tasks on the cluster of spark_jobs.py: what they keep is what one machine makes of them, also when
an AIOS dies in the middle."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time

import pictures
from instance import expect

JOB_S = 200
CHAINS, STEPS, NUMBERS = 12, 40, 1 << 19


def write_pictures(folder, count):
    folder.mkdir()
    source = random.Random(5)
    for number in range(count):
        width, height = source.randrange(40, 400), source.randrange(40, 300)
        rows = [source.randbytes(width) for _ in range(height)]
        (folder / f"{number:02}.png").write_bytes(
            pictures.png(width, height, pictures.GREY, 8, rows))


def kept_in(output):
    return {path.name: path.read_bytes() for path in output.iterdir()
            if path.name not in ("manifest.json", "_SUCCESS")}


def batch_of_pictures(cluster, root, settings):
    """The example, here and on the hosts."""
    folder = cluster.folder / "pictures"
    write_pictures(folder, 40)
    said = []
    for options, environment in (((), {"AIOS_SOCKET": str(cluster.folder / "node-1/aios.sock")}),
                                 (("--", "--engine", "spark", *settings), {})):
        output = cluster.output()
        done = subprocess.run(
            [sys.executable, root / "abi/examples/picture_batch.py", output, folder, *options],
            env={**cluster.environment, "AIOSCTL": cluster.aiosctl, **environment}, text=True,
            capture_output=True, check=False)
        expect(done.returncode == 0, f"a batch of pictures: {done.stderr[-3000:]}")
        said.append((done.stdout, kept_in(output)))
    expect(said[0] == said[1] and len(said[0][1]) == 80, "pictures: other results than on one machine")
    manifest = json.loads((output / "manifest.json").read_text())
    hosts = {one["host"] for one in manifest["partitions"]}
    print(f"a batch of pictures: the same {len(said[0][1])} files of {sorted(hosts)}", flush=True)


def write_chains(folder):
    """A graph file of partitions that take a while each."""
    (folder / "ones").write_bytes(struct.pack("f", 1) * NUMBERS)
    graph = {"codelets": {"axpy": {"module": "vector.so", "function": "axpy"}},
             "buffers": {"ones": {"load": "ones"}}, "tasks": []}
    for chain in range(CHAINS):
        graph["buffers"][f"sum{chain}"] = {"bytes": 4 * NUMBERS, "keep": True}
        for step in range(STEPS):
            graph["tasks"].append({
                "name": f"{chain}.{step}", "codelet": "axpy", "grid": [NUMBERS // 256],
                "arguments": [{"u32": NUMBERS}, {"f32": 1 + chain + step}],
                "buffers": [["ones", "read"], [f"sum{chain}", "read_write"]]})
    file = folder / "chains.json"
    file.write_text(json.dumps(graph))
    return file


def lost_instance(cluster, settings):
    """A host's AIOS is killed over a partition, and is back for whoever comes next."""
    file = write_chains(cluster.folder)
    alone = cluster.output()
    done = cluster.ctl(1, "graph", "run", file, "--output", alone)
    expect(done.returncode == 0, f"chains on one machine: {done.stderr}")
    output, began = cluster.output(), time.monotonic()
    running = subprocess.Popen(
        [cluster.aiosctl, "graph", "run", file, "--engine", "spark", "--output", output, "--json",
         *settings], env=cluster.environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    try:
        cluster.await_task(2, running)
        os.kill(json.loads(cluster.ctl(2, "status", "--json").stdout)["pid"], signal.SIGKILL)
        printed, errors = running.communicate(timeout=JOB_S)
    finally:
        running.kill()
    expect(running.returncode == 0, f"chains without a host: {running.returncode} {errors[-3000:]}")
    expect(kept_in(output) == kept_in(alone), "chains: another result than on one machine")
    said = json.loads(printed.splitlines()[-1])
    expect(sorted(path.name for path in output.iterdir()) == sorted(
        ["_SUCCESS", "manifest.json", *(f"sum{chain}" for chain in range(CHAINS))]), "leftovers")
    expect([one["number"] for one in said["partitions"]] == list(range(CHAINS)), f"{said}")
    expect(said["description_bytes"] < 64 * CHAINS * STEPS * 4, f"large descriptions: {said}")
    lost = [one["attempt"] for one in said["partitions"] if one["attempt"].split(".")[1] != "0"]
    print(f"a graph whose host's AIOS is killed: the same {CHAINS} files; {said['descriptions']} "
          f"descriptions, {said['description_bytes']} bytes; {len(lost)} partitions had begun before; "
          f"{time.monotonic() - began:.1f} s", flush=True)
    again = cluster.ctl(2, "boot", "--detach")
    expect(again.returncode == 0, f"node 2 does not boot again: {again.stderr}")
