"""The declarations of the package are those of the C headers."""

import ctypes
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from aios import _native, errors
from common import ROOT

INCLUDE = ROOT / "abi/include"
HEADERS = ("aios.h", "server.h", "storage.h", "tasks.h", "job.h", "codelet.h")

# Of a type of the headers, what ctypes has to say. Any other pointer is one to an object, or to
# where one is put.
SCALARS = {
    "void": {None}, "aios_code": {ctypes.c_int}, "int": {ctypes.c_int},
    "uint16_t": {ctypes.c_uint16}, "uint32_t": {ctypes.c_uint32}, "uint64_t": {ctypes.c_uint64},
    "size_t": {ctypes.c_size_t}, "aios_mapreduce_callback": {_native.MapreduceCallback},
    "void*": {ctypes.c_void_p}, "char*": {ctypes.c_char_p},
}
UNNAMED = {"WaitFd": "((aios_wait_item*)0)->what.fd", "WaitWhat": "((aios_wait_item*)0)->what"}
ENUMS = {"Access": "AIOS_GRANT_", "Mode": "AIOS_MODE_", "Phase": "AIOS_PHASE_",
         "WaitKind": "AIOS_WAIT_"}
# Of which the package has no use: a version of its own, the tables of modules, and what only the
# codelets themselves see.
NOT_DECLARED = {"AIOS_KERNEL_SECTION", "AIOS_GEMM_SECTION", "AIOS_VERSION_MAJOR",
                "AIOS_VERSION_MINOR", "AIOS_CODELET_ABI"}
CONSTANT = re.compile(r"^#define (AIOS_\w+) (?!__)\S", re.MULTILINE)


def header_text():
    text = "\n".join((INCLUDE / "aios" / name).read_text(encoding="utf-8") for name in HEADERS)
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def c_name(name):
    """aios_camel_case of CamelCase."""
    return "aios" + re.sub(r"[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def expected_types(declared):
    """What ctypes may say of a C type."""
    kind = declared.replace("const ", "").strip()
    if kind in SCALARS:
        return SCALARS[kind]
    pointee, star = kind[:-1], kind[-1]
    if star != "*":
        raise AssertionError(f"no idea what {declared} is")
    if pointee.endswith("*"):
        return {_native._OUT_OBJECT}
    if pointee in SCALARS:
        return {ctypes.POINTER(next(iter(SCALARS[pointee])))}
    for name, struct in structs().items():
        if c_name(name) == pointee:
            return {ctypes.POINTER(struct)}
    return {ctypes.c_void_p}


def structs():
    return {name: kind for name, kind in vars(_native).items()
            if isinstance(kind, type) and issubclass(kind, (ctypes.Structure, ctypes.Union))}


def functions():
    """Of each function in the headers the type of its result and those of its arguments."""
    found = {}
    for result, name, arguments in re.findall(
            r"AIOS_API\s+([\w ]+?[\s*]+)(aios_\w+)\(([^)]*)\);", header_text()):
        types = [re.sub(r"\b\w+$", "", " ".join(one.split())).replace(" *", "*").strip()
                 for one in arguments.split(",")]
        found[name] = (result.strip(), [] if types == [""] else types)
    return found


def assertions():
    """C that compiles where layouts and numbers are the same."""
    for name, kind in structs().items():
        place = UNNAMED.get(name, f"*({c_name(name)}*)0")
        yield f"sizeof({place}) == {ctypes.sizeof(kind)}", f"size of {name}"
        for field, ctype in kind._fields_:
            of = getattr(kind, field)
            whole = f"__typeof__({place})"
            there = f"(({whole}*)0)->{field}"
            yield f"offsetof({whole}, {field}) == {of.offset}", f"offset of {name}.{field}"
            yield f"sizeof({there}) == {of.size}", f"size of {name}.{field}"
            if getattr(ctype, "_type_", None) in tuple("bhilqBHILQ"):
                signed = int(ctype._type_.islower())
                yield f"((__typeof__({there}))-1 < 0) == {signed}", f"sign of {name}.{field}"
    for code in errors.Code:
        yield f"AIOS_{code.name} == {code.value}", f"Code.{code.name}"
    for name, prefix in ENUMS.items():
        for member in getattr(_native, name):
            yield f"{prefix}{member.name} == {member.value}", f"{name}.{member.name}"
    for name in constants():
        yield f"AIOS_{name} == {getattr(_native, name)}u", name


def constants():
    return [name for name, value in vars(_native).items()
            if name.isupper() and isinstance(value, int)]


class Headers(unittest.TestCase):
    def test_structs_and_numbers_are_the_same(self):
        lines = [f"#include <aios/{name}>" for name in HEADERS] + ["#include <stddef.h>"]
        lines += [f'_Static_assert({what}, "{text}");' for what, text in assertions()]
        self.assertGreater(len(lines), 150)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "layout.c"
            source.write_text("\n".join(lines) + "\n", encoding="utf-8")
            compiled = subprocess.run(
                ["cc", "-std=gnu11", "-fsyntax-only", "-I", INCLUDE, source], text=True,
                capture_output=True, check=False)
        self.assertEqual(compiled.returncode, 0, compiled.stderr)

    def test_functions_take_and_return_the_same(self):
        declared = functions()
        self.assertEqual(set(declared), set(_native.FUNCTIONS))
        for name, (result, arguments) in declared.items():
            ours_result, ours = _native.FUNCTIONS[name]
            with self.subTest(name):
                # Bytes are bytes, whatever C calls them.
                self.assertIn(ours_result, expected_types(result))
                self.assertEqual(len(ours), len(arguments))
                for here, there in zip(ours, arguments):
                    self.assertIn(here, expected_types(there), there)

    def test_every_code_has_a_number_and_a_class(self):
        codes = set(re.findall(r"^  AIOS_(\w+) = \d+,? *$", header_text().split("} aios_code;")[0],
                               re.MULTILINE))
        self.assertEqual(codes, {code.name for code in errors.Code})
        for code in errors.Code:
            if code is not errors.Code.OK:
                error = errors.error_of(code, "why")
                self.assertEqual((error.code, str(error)), (code, "why"))
                self.assertIsNot(type(error), errors.Error)
        self.assertEqual(errors.error_of(999, "why").code, 999)
        self.assertEqual(_native.lib.aios_code_name(errors.Code.PEER_CLOSED), b"peer_closed")

    def test_every_constant_of_the_headers_is_known(self):
        defined = set(CONSTANT.findall(header_text())) - NOT_DECLARED
        self.assertEqual({f"AIOS_{name}" for name in constants()} - defined,
                         {"AIOS_ATTACH_NEVER_SPIN", "AIOS_REGION_FREEZABLE",
                          "AIOS_REGION_HUGE_PAGES", "AIOS_REGION_HUGE_PAGES_ONLY",
                          "AIOS_REGION_SPREAD", "AIOS_TASK_GANG", "AIOS_TASK_IDEMPOTENT",
                          "AIOS_TASK_MAY_BE_CHEAPER"})
        self.assertEqual(defined - {f"AIOS_{name}" for name in constants()}, set())
