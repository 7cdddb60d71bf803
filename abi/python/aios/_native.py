"""Everything of the C headers that this package uses, as ctypes; a test compares the two.

A class `CamelCase` here is the struct `aios_camel_case` there, with the same fields.
"""

import ctypes
import enum
from collections.abc import Callable
from ctypes import (CFUNCTYPE, POINTER, c_char, c_char_p, c_int, c_int32, c_size_t, c_uint,
                    c_uint8, c_uint16, c_uint32, c_uint64, c_void_p)
from typing import Any, NoReturn

from . import errors
from ._library import load

MAX_WAIT_ITEMS = 256
MAX_REQUEST_BYTES = 440
MAX_REPLY_BYTES = 432
MAX_OBJECT_NAME_BYTES = 199
MAX_BATCH = 1024
MAX_FILE_RANGES = 128
MAX_TASK_BUFFERS = 16
MAX_TASK_DEPENDENCIES = 12
MAX_TASK_ARGUMENT_BYTES = 64
MAX_COUNTERS = 16
MAX_STAGES = 32
RESULT_WORDS = 4
FOREVER = 2**64 - 1
ATTACH_NEVER_SPIN = 1
REGION_FREEZABLE = 1
REGION_HUGE_PAGES = 2
REGION_HUGE_PAGES_ONLY = 4
REGION_SPREAD = 16
TASK_IDEMPOTENT = 1
TASK_MAY_BE_CHEAPER = 4
TASK_GANG = 8
MAX_GANG = 256


class Access(enum.IntEnum):
    """What somebody may do with a region; `WRITE` includes `READ`."""

    READ = 1
    WRITE = 2


class Mode(enum.IntEnum):
    """How a task uses a buffer. `SCRATCH` is memory whose bytes mean nothing before and after."""

    READ = 1
    WRITE = 2
    READ_WRITE = 3
    SCRATCH = 4
    REDUX = 5  # in graphs: adds to it, in any order with the others that do


class Phase(enum.IntEnum):
    """How far a MapReduce job is."""

    MAP = 0
    REDUCE = 1
    DONE = 2
    FAILED = 3
    FETCHING = 4  # objects are copied from storage
    UNPACKING = 5  # of the input, what is compressed


class WaitKind(enum.IntEnum):
    CALL = 1
    SERVICE = 2
    FD = 3
    TIMER = 4
    SERVER = 5
    TENANT = 6


class AttachOptions(ctypes.Structure):
    _fields_ = [("socket_path", c_char_p), ("job_name", c_char_p), ("memory_bytes", c_uint64),
                ("flags", c_uint64), ("reserved", c_uint64 * 4)]


class WaitFd(ctypes.Structure):
    """Unnamed in the header."""

    _fields_ = [("fd", c_int32), ("events", c_int32)]


class WaitWhat(ctypes.Union):
    """Unnamed in the header."""

    _fields_ = [("call", c_void_p), ("service", c_void_p), ("server", c_void_p),
                ("tenant", c_void_p), ("fd", WaitFd), ("at_ns", c_uint64)]


class WaitItem(ctypes.Structure):
    _fields_ = [("kind", c_uint), ("ready", c_int32), ("what", WaitWhat)]


class Peer(ctypes.Structure):
    _fields_ = [("process_id", c_uint64), ("job_id", c_uint64), ("protocol_version", c_uint64),
                ("client", c_uint64), ("uid", c_uint32), ("reserved", c_uint32)]


class ObjectInfo(ctypes.Structure):
    _fields_ = [("size_bytes", c_uint64), ("version", c_uint64), ("created_ns", c_uint64),
                ("checksum", c_uint64)]


class ObjectEntry(ctypes.Structure):
    _fields_ = [("info", ObjectInfo), ("name", c_char * (MAX_OBJECT_NAME_BYTES + 1))]


class TaskRecord(ctypes.Structure):
    _fields_ = [("tag", c_uint64), ("codelet", c_uint32), ("flags", c_uint32),
                ("priority", c_int32), ("buffer_count", c_uint32), ("dependency_count", c_uint32),
                ("argument_bytes", c_uint32), ("grid", c_uint32 * 3), ("device", c_uint32),
                ("limit_ns", c_uint64), ("buffers", c_uint32 * MAX_TASK_BUFFERS),
                ("dependencies", c_uint32 * MAX_TASK_DEPENDENCIES),
                ("arguments", c_uint8 * MAX_TASK_ARGUMENT_BYTES), ("deadline_ns", c_uint64),
                ("gang", c_uint32), ("gang_size", c_uint32), ("reserved_word", c_uint64)]


class FileRange(ctypes.Structure):
    _fields_ = [("fd", c_int32), ("reserved", c_uint32), ("offset", c_uint64),
                ("length", c_uint64)]


class Device(ctypes.Structure):
    _fields_ = [("index", c_uint32), ("healthy", c_uint32), ("emulated", c_uint32),
                ("threads", c_uint32), ("memory_bytes", c_uint64), ("kind", c_char * 16),
                ("backend", c_char * 16), ("name", c_char * 96), ("uuid", c_char * 64)]


class Prediction(ctypes.Structure):
    _fields_ = [("finish_ns", c_uint64), ("finish_p95_ns", c_uint64), ("tasks", c_uint32),
                ("unknown", c_uint32), ("promised", c_uint32), ("cheaper_tasks", c_uint32)]


class Offer(ctypes.Structure):
    _fields_ = [("cheaper_p95_ns", c_uint64), ("anywhere_p95_ns", c_uint64),
                ("cheaper_tasks", c_uint32), ("reserved", c_uint32)]


class Completion(ctypes.Structure):
    _fields_ = [("tag", c_uint64), ("status", c_uint32), ("attempts", c_uint32),
                ("start_ns", c_uint64), ("end_ns", c_uint64), ("peak_memory_bytes", c_uint64),
                ("result", c_uint64 * RESULT_WORDS)]


class MapreduceStage(ctypes.Structure):
    pass


MapreduceStage._fields_ = [("label", c_char_p), ("module_path", c_char_p),
                           ("arguments", POINTER(c_char_p)), ("argument_count", c_size_t),
                           ("then", POINTER(MapreduceStage))]


class MapreduceOptions(ctypes.Structure):
    _fields_ = [("label", c_char_p), ("module_path", c_char_p), ("arguments", POINTER(c_char_p)),
                ("argument_count", c_size_t), ("inputs", POINTER(c_char_p)),
                ("input_count", c_size_t), ("output", c_char_p), ("reducers", c_uint32),
                ("threads", c_uint32), ("memory_bytes", c_uint64), ("task_limit_ns", c_uint64),
                ("input_format", c_char_p), ("field", c_char_p),
                ("then", POINTER(MapreduceStage)), ("max_bad_records", c_uint64)]


class MapreduceProgress(ctypes.Structure):
    _fields_ = [("input_bytes", c_uint64), ("mapped_bytes", c_uint64), ("merge_bytes", c_uint64),
                ("merged_bytes", c_uint64), ("records", c_uint64), ("distinct_keys", c_uint64),
                ("tasks", c_uint64), ("attempts", c_uint64), ("spilled_bytes", c_uint64),
                ("phase", c_uint32), ("skipped_records", c_uint32)]


class MapreduceCounter(ctypes.Structure):
    _fields_ = [("name", c_char * 32), ("value", c_uint64)]


class MapreduceResult(ctypes.Structure):
    _fields_ = [("progress", MapreduceProgress), ("input_files", c_uint64),
                ("output_bytes", c_uint64), ("elapsed_ns", c_uint64), ("counter_count", c_uint32),
                ("reserved", c_uint32), ("counters", MapreduceCounter * MAX_COUNTERS)]


MapreduceCallback = CFUNCTYPE(c_int, c_void_p, POINTER(MapreduceProgress))

# A pointer to an opaque object, and where to put one.
_OBJECT = c_void_p
_OUT_OBJECT = POINTER(c_void_p)
_OUT_U64 = POINTER(c_uint64)
_OUT_U32 = POINTER(c_uint32)
_OUT_SIZE = POINTER(c_size_t)
_OUT_INT = POINTER(c_int)
_OUT_INFO = POINTER(ObjectInfo)

# Of each function what it returns (None: nothing), and what it takes.
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "aios_version": (c_char_p, []),
    "aios_code_name": (c_char_p, [c_int]),
    "aios_last_error": (c_char_p, []),
    "aios_attach": (c_int, [POINTER(AttachOptions), _OUT_OBJECT]),
    "aios_detach": (None, [_OBJECT]),
    "aios_connect": (c_int, [_OBJECT, c_char_p, c_uint64, _OUT_OBJECT]),
    "aios_service_close": (None, [_OBJECT]),
    "aios_call_method": (c_int, [_OBJECT, c_uint16, c_void_p, c_size_t, c_void_p, c_size_t,
                                 c_uint64]),
    "aios_call_start": (c_int, [_OBJECT, c_uint16, c_void_p, c_size_t, c_uint64, _OUT_OBJECT]),
    "aios_call_is_done": (c_int, [_OBJECT, _OUT_INT]),
    "aios_call_result": (c_int, [_OBJECT, c_void_p, c_size_t]),
    "aios_call_reply_bytes": (c_int, [_OBJECT, _OUT_SIZE]),
    "aios_call_free": (None, [_OBJECT]),
    "aios_region_create": (c_int, [_OBJECT, c_uint64, c_char_p, c_uint32, _OUT_OBJECT]),
    "aios_region_close": (None, [_OBJECT]),
    "aios_region_data": (c_void_p, [_OBJECT]),
    "aios_region_size": (c_uint64, [_OBJECT]),
    "aios_region_is_writable": (c_int, [_OBJECT]),
    "aios_region_freeze": (c_int, [_OBJECT]),
    "aios_region_is_frozen": (c_int, [_OBJECT, _OUT_INT]),
    "aios_grant": (c_int, [_OBJECT, _OBJECT, c_uint32, c_uint64, _OUT_U64]),
    "aios_region_receive": (c_int, [_OBJECT, c_uint64, c_uint32, _OUT_OBJECT]),
    "aios_region_keep": (c_int, [_OBJECT, c_char_p, c_uint32]),
    "aios_region_open": (c_int, [_OBJECT, c_char_p, c_uint32, _OUT_OBJECT]),
    "aios_forget": (c_int, [_OBJECT, c_char_p]),
    "aios_wait": (c_int, [POINTER(WaitItem), c_size_t, c_uint64]),
    "aios_poll_fd": (c_int, [_OBJECT, _OUT_INT]),
    "aios_arm": (c_int, [_OBJECT, _OUT_INT]),
    "aios_disarm": (c_int, [_OBJECT]),
    "aios_dispatch": (c_int, [_OBJECT]),
    "aios_server_create": (c_int, [_OBJECT, c_char_p, c_uint64, _OUT_OBJECT]),
    "aios_server_close": (None, [_OBJECT]),
    "aios_server_next": (c_int, [_OBJECT, c_uint64, _OUT_OBJECT]),
    "aios_request_opcode": (c_uint16, [_OBJECT]),
    "aios_request_data": (c_void_p, [_OBJECT, _OUT_SIZE]),
    "aios_request_peer": (c_int, [_OBJECT, POINTER(Peer)]),
    "aios_request_region": (c_int, [_OBJECT, c_uint64, c_uint32, _OUT_OBJECT]),
    "aios_request_grant": (c_int, [_OBJECT, _OBJECT, c_uint32, _OUT_U64]),
    "aios_request_reply": (c_int, [_OBJECT, c_void_p, c_size_t]),
    "aios_request_fail": (c_int, [_OBJECT, c_int, c_char_p]),
    "aios_storage_open": (c_int, [_OBJECT, _OUT_OBJECT]),
    "aios_storage_close": (None, [_OBJECT]),
    "aios_storage_put": (c_int, [_OBJECT, c_char_p, c_void_p, c_size_t, c_uint64, _OUT_INFO]),
    "aios_storage_get": (c_int, [_OBJECT, c_char_p, c_uint64, c_uint64, c_void_p, c_size_t,
                                 c_uint64, _OUT_SIZE, _OUT_INFO]),
    "aios_storage_put_region": (c_int, [_OBJECT, c_char_p, _OBJECT, c_uint64, c_uint64, c_uint64,
                                        _OUT_INFO]),
    "aios_storage_get_region": (c_int, [_OBJECT, c_char_p, c_uint64, c_uint64, _OBJECT, c_uint64,
                                        c_uint64, c_uint64, _OUT_U64, _OUT_INFO]),
    "aios_storage_stat": (c_int, [_OBJECT, c_char_p, c_uint64, _OUT_INFO]),
    "aios_storage_list": (c_int, [_OBJECT, c_char_p, c_char_p, POINTER(ObjectEntry), c_size_t,
                                  c_uint64, _OUT_SIZE, _OUT_INT]),
    "aios_storage_remove": (c_int, [_OBJECT, c_char_p, c_uint64]),
    "aios_storage_rename": (c_int, [_OBJECT, c_char_p, c_char_p, c_uint64]),
    "aios_tenant_open": (c_int, [_OBJECT, c_uint64, _OUT_OBJECT]),
    "aios_tenant_close": (None, [_OBJECT]),
    "aios_tenant_device": (c_int, [_OBJECT, c_uint32, c_uint64, POINTER(Device)]),
    "aios_codelet_register": (c_int, [_OBJECT, c_void_p, c_size_t, c_char_p, c_uint64, _OUT_U32]),
    "aios_codelet_register_file": (c_int, [_OBJECT, c_char_p, c_char_p, c_uint64, _OUT_U32]),
    "aios_codelet_set_cheaper": (c_int, [_OBJECT, c_uint32, c_uint32, c_uint64]),
    "aios_buffer_register": (c_int, [_OBJECT, _OBJECT, c_uint64, c_uint64, c_uint32, c_uint64,
                                     _OUT_U32]),
    "aios_buffer_release": (c_int, [_OBJECT, c_uint32, c_uint64]),
    "aios_files_register": (c_int, [_OBJECT, POINTER(FileRange), c_size_t, c_uint64, _OUT_U32]),
    "aios_task_init": (c_int, [POINTER(TaskRecord), c_uint64, c_uint32]),
    "aios_task_add_buffer": (c_int, [POINTER(TaskRecord), c_uint32, c_uint32]),
    "aios_task_add_dependency": (c_int, [POINTER(TaskRecord), c_uint64]),
    "aios_task_set_arguments": (c_int, [POINTER(TaskRecord), c_void_p, c_size_t]),
    "aios_task_set_gang": (c_int, [POINTER(TaskRecord), c_uint32, c_uint32]),
    "aios_tasks_submit": (c_int, [_OBJECT, POINTER(TaskRecord), c_size_t, c_uint64]),
    "aios_tasks_submit_many": (c_int, [_OBJECT, POINTER(TaskRecord), c_size_t, c_uint64,
                                       _OUT_SIZE]),
    "aios_tasks_cancel": (c_int, [_OBJECT, c_uint64, c_uint64, c_uint64, _OUT_SIZE, _OUT_SIZE]),
    "aios_graph_create": (c_int, [_OBJECT, _OUT_OBJECT]),
    "aios_graph_free": (None, [_OBJECT]),
    "aios_graph_add": (c_int, [_OBJECT, POINTER(TaskRecord), _OUT_U32]),
    "aios_graph_add_edge": (c_int, [_OBJECT, c_uint32, c_uint32]),
    "aios_graph_gang": (c_int, [_OBJECT, POINTER(c_uint32), c_size_t]),
    "aios_graph_set_reduction": (c_int, [_OBJECT, c_uint32, POINTER(c_uint32), c_size_t, c_uint32,
                                         c_uint32]),
    "aios_graph_set_deadline": (c_int, [_OBJECT, c_uint64]),
    "aios_graph_predicted": (c_int, [_OBJECT, POINTER(Prediction)]),
    "aios_graph_permit_cheaper": (c_int, [_OBJECT, c_int]),
    "aios_graph_offered": (c_int, [_OBJECT, POINTER(Offer)]),
    "aios_graph_submit": (c_int, [_OBJECT, c_uint64]),
    "aios_graph_wait": (c_int, [_OBJECT, c_uint64, _OUT_SIZE]),
    "aios_graph_completion": (c_int, [_OBJECT, c_uint32, POINTER(Completion)]),
    "aios_graph_cancel": (c_int, [_OBJECT, c_uint64]),
    "aios_tenant_completions": (c_int, [_OBJECT, POINTER(Completion), c_size_t, c_uint64,
                                        _OUT_SIZE]),
    "aios_tenant_completions_of": (c_int, [_OBJECT, POINTER(Completion), c_size_t, c_size_t,
                                           c_uint64, _OUT_SIZE]),
    "aios_task_failure": (c_int, [_OBJECT, c_uint64, c_char_p, c_size_t, c_uint64]),
    "aios_task_cancel": (c_int, [_OBJECT, c_uint64, c_uint64]),
    "aios_mapreduce_align": (c_int, [c_char_p, c_int, _OUT_U64, c_size_t]),
    "aios_mapreduce_pack_format": (c_int, [c_char_p, c_char_p, c_void_p, c_size_t, _OUT_SIZE]),
    "aios_mapreduce_run": (c_int, [_OBJECT, POINTER(MapreduceOptions), MapreduceCallback, c_void_p,
                                   POINTER(MapreduceResult)]),
}


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    for name, (result, arguments) in FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(f"{library._name} has no {name}; it is of another version") from None
        function.restype = result
        function.argtypes = arguments
    return library


lib = _declare(load())


def throw(code: int) -> NoReturn:
    """Raises what this thread's last call failed with."""
    raise errors.error_of(code, lib.aios_last_error().decode("utf-8", "replace"))


def check(code: int) -> None:
    """Raises what this thread's last call failed with, unless it did not."""
    if code != errors.Code.OK:
        throw(code)


class Owned(c_void_p):
    """An object of the library's, freed when nothing in Python refers to it any more.

    It is made empty, and a function of the library fills it in: an exception of a signal handler
    cannot come in between. What is made of another object refers to that one, so calls go before
    their service and everything before its instance. ctypes refers to the arguments of a call
    while it lasts, so nothing is freed under another thread's feet.
    """

    def __init__(self, free: Callable[..., object], parent: "Owned | None" = None):
        super().__init__()
        self._free = free
        self.parent = parent

    @property
    def instance(self) -> "Owned":
        """The attachment that everything was made of."""
        return self if self.parent is None else self.parent.instance

    def __del__(self) -> None:
        if self.value is not None:
            self._free(self)
