"""Programs outside the tree, C11 and C++20, build against an installed AIOS and run on it.

usage: installed.py BUILD_FOLDER

The examples are those programs. Nothing but what `meson install` put into a folder of its own is
used: headers and library through pkg-config, the servers by the installed aiosctl.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent.parent
EXAMPLES = TESTS.parent / "abi/examples"
sys.path.insert(0, str(TESTS / "support"))
from instance import Instance, expect, run_test, wait_until  # noqa: E402

MAX_EXAMPLE_LINES = 80
RUN_TIMEOUT_S = 60
LANGUAGES = {
    "c": ["gcc", "-std=c11", "-pedantic"],
    "cpp": ["g++", "-std=c++20", "-pedantic"],
}
WARNINGS = ["-O1", "-Wall", "-Wextra", "-Werror"]
NAMES = ["echo_server", "echo_client", "share", "storage", "tasks"]


class Prefix:
    """What `meson install` installs, below a folder."""

    def __init__(self, build, folder):
        subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir",
                        folder], check=True, capture_output=True)
        found = [p.parent for p in folder.rglob("aios.pc")]
        expect(len(found) == 1, f"aios.pc is installed {len(found)} times")
        self.root = folder
        self.library = found[0].parent
        self.prefix = next(p for p in self.library.parents if (p / "bin/aiosctl").exists())
        self.environment = {**os.environ, "PKG_CONFIG_PATH": str(found[0]),
                            "PKG_CONFIG_SYSROOT_DIR": str(folder),
                            "ASAN_OPTIONS": "", "UBSAN_OPTIONS": ""}

    def flags(self, *options):
        return shlex.split(subprocess.run(["pkg-config", *options, "aios"], env=self.environment,
                                          check=True, capture_output=True, text=True).stdout)

    def compile(self, source, output, *extra):
        compiler = LANGUAGES[source.suffix[1:]]
        subprocess.run([*compiler, *WARNINGS, str(source), "-o", str(output), *extra],
                       cwd=output.parent, env=self.environment, check=True)

    def programs(self, sources, folder, language):
        """The examples of a language, compiled: name -> path."""
        link = [*self.flags("--cflags", "--libs"), f"-Wl,-rpath,{self.library}"]
        made = {}
        for name in NAMES:
            made[name] = folder / f"{name}-{language}"
            self.compile(sources / f"{name}.{language}", made[name], *link)
        return made


def check_installed(prefix):
    """Everything a user was promised is there, and the library has its name."""
    for name in ["aios.h", "aios.hpp", "codelet.h", "job.h", "mapreduce.hpp", "server.h",
                 "storage.h", "tasks.h", "mapreduce/format.hpp"]:
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


def check_echo(environment, server, client):
    with subprocess.Popen([server], env=environment, stdout=subprocess.PIPE, text=True) as serving:
        try:
            expect(serving.stdout.readline() == "serving parrot\n", "the server does not serve")
            expect(run(environment, client) == "0: hello 0\n1: hello 1\n", "other answers came")
        finally:
            serving.send_signal(signal.SIGTERM)
    expect(serving.returncode == -signal.SIGTERM, f"the server ended with {serving.returncode}")


def check_programs(instance, programs, module):
    environment = {**instance.environment, "AIOS_SOCKET": str(instance.state / "aios.sock")}
    check_echo(environment, programs["echo_server"], programs["echo_client"])
    shared = instance.ctl("run", "--job", "sharing", "--", "sh", "-c",
                          f"{programs['share']} write 'a text' && {programs['share']} read")
    expect(shared == "a text\n", f"shared: {shared!r}")
    stored = run(environment, programs["storage"])
    expect(stored == "read: hello from a program\nin shared memory: hello from a program\n"
           "examples/greeting has 20 bytes\n", f"stored: {stored!r}")
    tasks = run(environment, programs["tasks"], module)
    expect(tasks == "task 1: ok \ntask 2: ok \nthe last number is 999\n", f"tasks: {tasks!r}")


def main():
    # Longer paths than usual, so that nothing depends on short ones.
    folder = Path(tempfile.mkdtemp(prefix="aios-installed-"))
    try:
        prefix = Prefix(sys.argv[1], folder / "root")
        check_installed(prefix)
        outside = folder / "outside"
        shutil.copytree(EXAMPLES, outside, ignore=shutil.ignore_patterns("__pycache__"))
        for source in outside.iterdir():
            lines = source.read_text(encoding="utf-8").count("\n") if source.is_file() else 0
            expect(lines < MAX_EXAMPLE_LINES, f"{source.name} has {lines} lines")
        module = outside / "scale_module.so"
        prefix.compile(outside / "scale_module.c", module, "-fPIC", "-shared",
                       *prefix.flags("--cflags"))
        with Instance(str(prefix.prefix / "bin/aiosctl")) as instance:
            wait_until(lambda: all(server["state"] == "running"
                                   for server in instance.status()["servers"]), RUN_TIMEOUT_S,
                       "every server runs")
            for language in LANGUAGES:
                check_programs(instance, prefix.programs(outside, outside, language), module)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(run_test(main))
