"""Programs outside the tree, C11 and C++20, build against an installed AIOS and run on it.

usage: installed.py BUILD_FOLDER

The examples are those programs. Nothing but what `meson install` put into a folder of its own is
used: headers and library through pkg-config, the servers by the installed aiosctl.
"""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "support"))
from examples import EXAMPLES, LANGUAGES, PRINTED, Prefix  # noqa: E402
from instance import Instance, expect, run_test, wait_until  # noqa: E402

MAX_EXAMPLE_LINES = 80
RUN_TIMEOUT_S = 60


def check_installed(prefix):
    """Everything a user was promised is there, and the library has its name."""
    for name in ["aios.h", "aios.hpp", "codelet.h", "graph.hpp", "job.h", "job.hpp",
                 "kernel.h", "mapreduce.hpp", "server.h", "storage.h", "tasks.h",
                 "mapreduce/format.hpp"]:
        expect((prefix.prefix / "include/aios" / name).is_file(), f"{name} is not installed")
    dynamic = subprocess.run(["readelf", "-d", prefix.library / "libaios.so"], check=True,
                             capture_output=True, text=True).stdout
    expect("[libaios.so.0]" in dynamic, "the soname is not libaios.so.0")
    expect("libaios.so.0" in " ".join(p.name for p in prefix.library.iterdir()),
           "there is no libaios.so.0")


def run(environment, *command):
    """Standard output of a program that succeeds in time."""
    done = subprocess.run([str(c) for c in command], env=environment, text=True,
                          capture_output=True, timeout=RUN_TIMEOUT_S, check=False)
    expect(done.returncode == 0,
           f"{command[0]}: exit code {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


KERNEL = """#include <aios/kernel.h>
AIOS_ARGUMENTS(axpy, { uint32_t n; float a; });
AIOS_KERNEL(axpy, (256, 1, 1), (read, float, x), (read_write, float, y)) {
  AIOS_THREADS {
    const uint32_t i = AIOS_GLOBAL_X;
    if (i < arguments.n) y[i] += arguments.a * x[i];
  }
}
AIOS_MODULE(axpy)
"""


def check_kernels(prefix, folder):
    """The installed compiler of kernels finds its header and says what does not compile."""
    source = folder / "axpy.kc"
    compiler = [prefix.prefix / "bin/aios-kc", source, "-o", folder / "axpy.so", "--cxx", "g++",
                "--ptx", "none"]
    source.write_text(KERNEL, encoding="utf-8")
    run(None, *compiler)
    sections = subprocess.run(["readelf", "-SW", folder / "axpy.so"], check=True,
                              capture_output=True, text=True).stdout
    for name in [".aios.kernels", ".aios.opencl", ".aios.ptx"]:
        expect(name in sections, f"the module has no section {name}")
    source.write_text(KERNEL.replace("arguments.a", "arguments.b"), encoding="utf-8")
    failed = subprocess.run(compiler, capture_output=True, text=True, check=False)
    expect(failed.returncode == 1 and "does not compile for the processor" in failed.stderr,
           f"a wrong kernel: {failed.returncode}: {failed.stderr}")
    source.write_text(KERNEL.replace("AIOS_MODULE(axpy)", ""), encoding="utf-8")
    failed = subprocess.run(compiler, capture_output=True, text=True, check=False)
    expect(failed.returncode == 1 and "names no kernels" in failed.stderr,
           f"a file without a module: {failed.returncode}: {failed.stderr}")


def check_echo(environment, server, client):
    with subprocess.Popen([server], env=environment, stdout=subprocess.PIPE, text=True) as serving:
        try:
            expect(serving.stdout.readline() == PRINTED["echo_server"], "the server does not serve")
            expect(run(environment, client) == PRINTED["echo_client"], "other answers came")
        finally:
            serving.send_signal(signal.SIGTERM)
    expect(serving.returncode == -signal.SIGTERM, f"the server ended with {serving.returncode}")


def check_programs(instance, programs, module):
    environment = {**instance.environment, "AIOS_SOCKET": str(instance.state / "aios.sock")}
    check_echo(environment, programs["echo_server"], programs["echo_client"])
    shared = instance.ctl("run", "--job", "sharing", "--", "sh", "-c",
                          f"{programs['share']} write 'a text' && {programs['share']} read")
    expect(shared == PRINTED["share"], f"shared: {shared!r}")
    stored = run(environment, programs["storage"])
    expect(stored == PRINTED["storage"], f"stored: {stored!r}")
    tasks = run(environment, programs["tasks"], module)
    expect(tasks == PRINTED["tasks"], f"tasks: {tasks!r}")
    check_usage(programs["tasks"])


def check_usage(program):
    """Without its module it says what it takes."""
    said = subprocess.run([program], capture_output=True, text=True, check=False)
    expect(said.returncode == 2 and said.stderr.startswith("usage: "), f"{program}: {said}")


def check_everywhere(instance, program, module):
    """One kernel, compiled by the installed compiler, computes the same on every device."""
    check_usage(program)
    wait_until(lambda: not any(one["backend"] == "gpu" for one in
                               json.loads(instance.ctl("devices", "--json"))["missing"]),
               RUN_TIMEOUT_S, "the GPU driver has looked for its devices")
    devices = json.loads(instance.ctl("devices", "--json"))["devices"]
    environment = {**instance.environment, "AIOS_SOCKET": str(instance.state / "aios.sock")}
    printed = run(environment, program, module).splitlines()
    expect(printed == [f"{device['backend']}: 871 takes the most steps, 178"
                       for device in devices], f"everywhere: {printed}")


def main():
    # Longer paths than usual, so that nothing depends on short ones.
    folder = Path(tempfile.mkdtemp(prefix="aios-installed-"))
    try:
        prefix = Prefix(sys.argv[1], folder / "root")
        check_installed(prefix)
        check_kernels(prefix, folder)
        outside = folder / "outside"
        shutil.copytree(EXAMPLES, outside, ignore=shutil.ignore_patterns("__pycache__"))
        for source in outside.iterdir():
            lines = source.read_text(encoding="utf-8").count("\n") if source.is_file() else 0
            expect(lines < MAX_EXAMPLE_LINES, f"{source.name} has {lines} lines")
        module = prefix.module(outside, outside)
        with Instance(str(prefix.prefix / "bin/aiosctl")) as instance:
            wait_until(lambda: all(server["state"] == "running"
                                   for server in instance.status()["servers"]), RUN_TIMEOUT_S,
                       "every server runs")
            for language in LANGUAGES:
                check_programs(instance, prefix.programs(outside, outside, language), module)
            check_everywhere(instance, *prefix.kernels(outside, outside))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(run_test(main))
