"""The programs of abi/examples, compiled against an installed AIOS, and what they print."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from instance import expect

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "abi/examples"
LANGUAGES = {
    "c": ["gcc", "-std=c11", "-pedantic"],
    "cpp": ["g++", "-std=c++20", "-pedantic"],
}
WARNINGS = ["-O1", "-Wall", "-Wextra", "-Werror"]
NAMES = ["echo_server", "echo_client", "share", "storage", "tasks"]
# `share` reads what `share write 'a text'` has left to it.
PRINTED = {
    "echo_server": "serving parrot\n",
    "echo_client": "0: hello 0\n1: hello 1\n",
    "share": "a text\n",
    "storage": "read: hello from a program\nin shared memory: hello from a program\n"
               "examples/greeting has 20 bytes\n",
    "tasks": "task 1: ok \ntask 2: ok \nthe last number is 999\n",
}


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

    def kernels(self, sources, folder):
        """One kernel for every device, by the installed compiler, and the program that runs it."""
        module, program = folder / "everywhere.so", folder / "everywhere"
        # Only PTX needs clang; without it the module has none.
        options = [] if shutil.which("clang++-16") else ["--ptx", "none"]
        subprocess.run([self.prefix / "bin/aios-kc", sources / "everywhere.kc", "-o", module,
                        *options], check=True)
        self.compile(sources / "everywhere.cpp", program, *self.flags("--cflags", "--libs"),
                     f"-Wl,-rpath,{self.library}")
        return program, module

    def module(self, sources, folder):
        """The module that the tasks run."""
        made = folder / "scale_module.so"
        self.compile(sources / "scale_module.c", made, "-fPIC", "-shared", *self.flags("--cflags"))
        return made
