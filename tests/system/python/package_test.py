"""How the package is found, installed and checked, and the examples that use it."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

import aios
import common
import pictures
from common import PACKAGE, PATIENCE_S, ROOT, Case, build_folder, run_python

EXAMPLES = ROOT / "abi/examples"
MAX_EXAMPLE_LINES = 80
MYPY = shutil.which("mypy", path="/usr/bin")


class Library(Case):
    def test_the_package_is_the_installed_one_of_the_librarys_version(self):
        self.assertNotIn(str(ROOT / "abi"), aios.__file__)
        self.assertEqual(importlib.metadata.version("aios"), aios.__version__)
        self.assertTrue((Path(aios.__file__).parent / "py.typed").exists())
        for name in aios.__all__:
            self.assertTrue(hasattr(aios, name), name)

    def import_with(self, **environment):
        result = run_python("import aios; print(aios.__version__)", environment={
            "AIOS_LIBRARY": "", "LD_LIBRARY_PATH": "", "PKG_CONFIG_PATH": "", **environment})
        return result.stdout or result.stderr.splitlines()[-1]

    def test_it_is_found_by_its_name_by_the_loader_and_by_pkg_config(self):
        folder = build_folder() / "abi"
        version = aios.__version__ + "\n"
        self.assertEqual(self.import_with(AIOS_LIBRARY=str(folder / "libaios.so.0")), version)
        self.assertEqual(self.import_with(LD_LIBRARY_PATH=str(folder)), version)
        packages = self.folder()
        (packages / "aios.pc").write_text(
            f"libdir={folder}\nName: aios\nDescription: test\nVersion: 0\nLibs: -L${{libdir}}\n",
            encoding="utf-8")
        self.assertEqual(self.import_with(PKG_CONFIG_PATH=str(packages)), version)

    def test_a_library_that_cannot_be_used_is_an_import_error_that_says_what_to_do(self):
        self.assertRegex(self.import_with(AIOS_LIBRARY="/no/such/file"),
                         "ImportError: AIOS_LIBRARY names no library")
        self.assertRegex(self.import_with(AIOS_LIBRARY="libc.so.6"),
                         "ImportError: libc.so.6 is no libaios")
        self.assertRegex(self.import_with(PKG_CONFIG_PATH="/nowhere"),
                         "ImportError: libaios.so.0 cannot be loaded .*let AIOS_LIBRARY name")

    def test_a_library_of_another_version_is_refused(self):
        folder = self.folder()
        for name, version, says in (("old", "0.0.9", "needs 0.2"), ("new", "0.2.7", "has no aios")):
            source = folder / f"{name}.c"
            source.write_text(f'const char* aios_version(void) {{ return "{version}"; }}',
                              encoding="utf-8")
            library = folder / f"{name}.so"
            subprocess.run(["cc", "-shared", "-o", library, source], check=True)
            self.assertIn(says, self.import_with(AIOS_LIBRARY=str(library)))

    def test_without_an_instance_attaching_says_so(self):
        with self.assertRaisesRegex(aios.Unreachable, "aios"):
            aios.attach("/nowhere/aios.sock")
        self.assertRaises(aios.InvalidArgument, aios.attach, "/no\0where")
        self.assertRaises(TypeError, aios.attach, 7)
        result = run_python("import aios; aios.attach()",
                            environment={"AIOS_SOCKET": "/nowhere/aios.sock"})
        self.assertIn("aios.errors.Unreachable:", result.stderr)

    def test_it_works_without_numpy_until_an_array_is_asked_for(self):
        result = run_python(
            "import sys; sys.modules['numpy'] = None\n"
            "import aios\n"
            "with aios.attach() as instance, instance.create_region(4096) as region:\n"
            "    region.data[0] = 1\n"
            "    try: region.array()\n"
            "    except ImportError: print('no NumPy')\n")
        self.assertEqual((result.stdout, result.stderr), ("no NumPy\n", ""))

    @unittest.skipUnless(MYPY, "mypy is not installed")
    def test_mypy_finds_nothing_strictly(self):
        user = self.folder() / "user.py"
        user.write_text(
            "import aios\nimport numpy\n"
            "with aios.attach() as instance, instance.connect('echo', 1) as echo:\n"
            "    reply: bytes = echo.call(1, numpy.zeros(8))\n"
            "    ready: list[aios.Call] = aios.wait([echo.start(1)], 1.5)\n"
            "    region = instance.create_region(numpy.prod((8, 8)))\n"
            "    instance.storage().put('name', region.array('f4', [numpy.int64(4)]))\n"
            "async def f(s: aios.Server) -> aios.Request:\n"
            "    return await aios.aio.next_request(s)\n", encoding="utf-8")
        checked = subprocess.run(
            [MYPY, "--strict", "--cache-dir", common.booted.work / "mypy", PACKAGE / "aios", user,
             *EXAMPLES.glob("*.py")], text=True, capture_output=True, check=False,
            env={**os.environ, "MYPYPATH": str(PACKAGE)})
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)


class Examples(Case):
    """The twins of those in C and C++: their output is the same."""

    def run_example(self, name, *arguments):
        result = subprocess.run([sys.executable, EXAMPLES / name, *arguments], text=True,
                                capture_output=True, timeout=PATIENCE_S, check=False)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout

    def test_they_are_short(self):
        for example in EXAMPLES.glob("*.py"):
            self.assertLess(len(example.read_text(encoding="utf-8").splitlines()),
                            MAX_EXAMPLE_LINES, example.name)

    def test_a_client_is_answered_by_the_echo_server(self):
        with subprocess.Popen([sys.executable, EXAMPLES / "echo_server.py"], text=True,
                              stdout=subprocess.PIPE) as server:
            try:
                self.assertEqual(server.stdout.readline(), "serving parrot\n")
                self.assertEqual(self.run_example("echo_client.py"), "0: hello 0\n1: hello 1\n")
            finally:
                server.kill()

    def test_two_programs_share_a_region(self):
        shared = common.booted.ctl(
            "run", "--job", "python-sharing", "--", "sh", "-c",
            '"$0" "$1" write "a text" && "$0" "$1" read', sys.executable, EXAMPLES / "share.py")
        self.assertEqual(shared, "a text\n")

    def test_an_object_is_stored(self):
        self.assertEqual(self.run_example("storage.py"),
                         "read: hello from a program\nin shared memory: hello from a program\n"
                         "examples/greeting has 20 bytes\n")

    def test_tasks_are_run(self):
        module = self.folder() / "scale_module.so"
        subprocess.run(["cc", "-std=c11", "-O2", "-fPIC", "-shared", "-I", ROOT / "abi/include",
                        "-o", module, EXAMPLES / "scale_module.c"], check=True)
        self.assertEqual(self.run_example("tasks.py", module),
                         "task 1: ok \ntask 2: ok \nthe last number is 999\n")

    def test_pictures_are_looked_at_by_a_graph(self):
        folder = self.folder()
        files = [folder / "a.png", folder / "b.jpg"]
        files[0].write_bytes(pictures.png_of([[(0, 0, 0)] * 8 + [(255, 255, 255)] * 8] * 10))
        files[1].write_bytes(pictures.jpeg([[100] * 3] * 2))
        libexec = build_folder() / "libexec"
        self.assertEqual(self.run_example("pictures.py", libexec, *files),
                         f"{files[0]}: mean grey 127.5, edges 12.5%\n"
                         f"{files[1]}: mean grey 100.0, edges 0.0%\n")

    def test_a_batch_of_pictures_is_a_template_of_a_graph(self):
        folder = self.folder()
        (folder / "a.png").write_bytes(pictures.png_of([[(0, 0, 0)] * 8 + [(255, 255, 255)] * 8] * 10))
        (folder / "b.jpg").write_bytes(pictures.jpeg([[100] * 3] * 2))
        self.addCleanup(os.environ.pop, "AIOSCTL", None)
        os.environ["AIOSCTL"] = common.booted.aiosctl
        self.assertEqual(self.run_example("picture_batch.py", folder / "counts", folder / "a.png",
                                          folder / "b.jpg"),
                         f"{folder}/a.png: mean grey 127.5, edges 12.5%\n"
                         f"{folder}/b.jpg: mean grey 100.0, edges 0.0%\n")

    def test_one_kernel_computes_the_same_on_every_device(self):
        module = self.folder() / "everywhere.so"
        ptx = ROOT / "tests/system/devices/everywhere.ptx"
        subprocess.run([ROOT / "tools/aios-kc", EXAMPLES / "everywhere.kc", "-o", module,
                        "--ptx", ptx], check=True)
        printed = self.run_example("everywhere.py", module).splitlines()
        self.assertIn("cpu: 871 takes the most steps, 178", printed)
        for line in printed:
            self.assertRegex(line, "^[a-z]+: 871 takes the most steps, 178$")
