"""A program's place in a running instance of AIOS: everything else is made of it."""

import ctypes
import os
from collections.abc import Sequence
from typing import SupportsIndex

from . import mapreduce
from ._convert import nanoseconds, text, unsigned
from ._native import (ATTACH_NEVER_SPIN, REGION_FREEZABLE, REGION_HUGE_PAGES,
                      REGION_HUGE_PAGES_ONLY, REGION_SPREAD, Access, AttachOptions, Owned, check,
                      lib)
from ._object import Object
from .region import Region
from .server import Server
from .service import DEFAULT_TIMEOUT_S, Service
from .storage import Storage
from .tasks import Tenant


class Instance(Object):
    """An attachment; made by `attach`. Any number of threads may use one at once.

    What was made of it keeps it: closing it takes effect when the last of that is closed. In a
    forked child everything that was made before the fork raises `BadHandle`, and the parent's is
    not touched; the child may attach for itself.

    It asks the kernel one thing at a time: while one thread creates a large region, a third of a
    second for a GiB, others that connect, accept, grant or close a region wait beyond their
    timeouts. Make such regions first, or by an attachment of their own.

    When the instance itself ends, everything that needs it raises `PeerClosed` or `Unreachable`.
    """

    def connect(self, name: str, version: int) -> Service:
        """A connection to a server: one of the instance's, or one that a program of the job runs.

        `version` is that of its protocol. `NotFound`: what was published after `attach` is seen by
        attaching again.
        """
        native = self._native()
        service = Owned(lib.aios_service_close, native)
        check(lib.aios_connect(native, text(name, "name"), unsigned(version, "version"),
                               ctypes.byref(service)))
        return Service(service)

    def serve(self, label: str, version: int) -> Server:
        """Serves under `label`, 1 to 31 letters, digits, '.', '_' and '-'.

        A label that the job keeps from a server whose program ended is taken over with its clients.
        Clients of another version get `VersionMismatch`. Raises `AlreadyExists`: a server of the
        instance has that name, or a kept region, or a program of the job that still runs serves
        under it.
        """
        native = self._native()
        server = Owned(lib.aios_server_close, native)
        check(lib.aios_server_create(native, text(label, "label"), unsigned(version, "version"),
                                     ctypes.byref(server)))
        return Server(server)

    def create_region(self, size_bytes: SupportsIndex, name: str = "", freezable: bool = False, *,
                      huge_pages: bool = False, huge_pages_only: bool = False,
                      numa_node: SupportsIndex | None = None, spread: bool = False) -> Region:
        """Shared memory of at least `size_bytes`, zero, charged to the job; `Quota`, `NoMemory`.

        `name` is for listings. `huge_pages`: in pages of 2 MiB as far as the host has such;
        `huge_pages_only`: or not at all (`NotSupported`, `NoMemory`). It lies on `numa_node`
        (`InvalidArgument` where there is none of that number), page by page on all (`spread`), or
        on that of the processor that this thread is on.
        """
        node = 0 if numa_node is None else unsigned(numa_node, "numa_node", 63) + 1
        flags = ((REGION_FREEZABLE if freezable else 0) |
                 (REGION_HUGE_PAGES if huge_pages else 0) |
                 (REGION_HUGE_PAGES_ONLY if huge_pages_only else 0) |
                 (REGION_SPREAD if spread else 0) | node << 8)
        native = self._native()
        region = Owned(lib.aios_region_close, native)
        check(lib.aios_region_create(native, unsigned(size_bytes, "size_bytes"),
                                     text(name, "name"), flags, ctypes.byref(region)))
        return Region(region)

    def open_region(self, label: str, access: Access = Access.READ) -> Region:
        """A region that `Region.keep` left in the job before this program attached."""
        native = self._native()
        region = Owned(lib.aios_region_close, native)
        check(lib.aios_region_open(native, text(label, "label"), Access(access),
                                   ctypes.byref(region)))
        return Region(region)

    def forget(self, label: str) -> None:
        """Takes a label away; those who have opened what it named keep it. `NotFound`."""
        check(lib.aios_forget(self._native(), text(label, "label")))

    def storage(self) -> Storage:
        """The user's objects."""
        native = self._native()
        storage = Owned(lib.aios_storage_close, native)
        check(lib.aios_storage_open(native, ctypes.byref(storage)))
        return Storage(storage)

    def tenant(self, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> Tenant:
        """The job at the scheduler, for tasks."""
        native = self._native()
        tenant = Owned(lib.aios_tenant_close, native)
        check(lib.aios_tenant_open(native, nanoseconds(timeout_s), ctypes.byref(tenant)))
        return Tenant(tenant)

    def mapreduce(self, module: mapreduce.Path, inputs: Sequence[mapreduce.Path],
                  output: mapreduce.Path, *, arguments: Sequence[str] = (), label: str = "job",
                  reducers: int = 1, threads: int = 0, memory_bytes: int = 0,
                  task_limit_s: float = 0.0, input_format: str = "text", field: str | None = None,
                  then: Sequence[mapreduce.Stage] = (), max_bad_records: int = 0,
                  on_progress: mapreduce.OnProgress | None = None) -> mapreduce.Result:
        """Runs a job and blocks until its output is complete and on disk.

        `module` is an ELF file made with <aios/mapreduce.hpp>, or one of AIOS's own jobs in
        libexec/aios/modules; `inputs` are files and folders, what ends in .gz or .zst is unpacked,
        and objects of storage: "aios:NAME", or "aios:PREFIX/" for all below; `output` is a folder
        that is not there yet, or is empty. The output has a part for each of `reducers`; `threads`
        tasks run at once (0: as many as the devices can) within `memory_bytes` (0: a quarter of the
        machine's, at most 1 GiB), each at most `task_limit_s` (0: for ever). Records that the job
        crashes, fails or exceeds this limit on are skipped, up to `max_bad_records` of them;
        manifest.json in the output says which.

        `input_format` says what records are: "text" (words or lines, as the module wants), "csv" or
        "csv:D" with another delimiter than a comma ("tab" is one), "jsonl", or "fixed:N" with N bytes
        each. `field` is the part of a record that the module sees. csv: its number, from 1, or its
        name in the header that every file then begins with; jsonl: the name of a member, or a JSON
        pointer; fixed: "OFFSET:BYTES".

        The jobs of `then` make it a chain: each reads the lines that the one before it wrote. What
        lies between two of them is removed, and the output appears when the last one is done.

        `on_progress` sees the progress several times a second. When it answers False the job is
        cancelled; what it raises cancels the job, too, and is raised here, and so is Ctrl-C. Until
        the job has failed or is done, signals are handled between two looks at its progress.

        Raises `NotFound`, `Denied`: of the module, an input or the services; `InvalidArgument`, also
        what the module says of its arguments; `AlreadyExists`: the output folder is not empty;
        `Cancelled`; `SourceChanged`: an input changed meanwhile; `Crashed`, and what the module
        returns: the message names the input file and the place in it; `TimedOut`: a task exceeded
        its limit; `NoSpace`, `IoError`: of the output; `PeerClosed`: a service died meanwhile,
        three times (until then the job is done anew); `Unreachable`; `Quota`. The output folder is then as it was.
        """
        return mapreduce.run(self._native(), module, inputs, output, arguments, label, reducers,
                             threads, memory_bytes, task_limit_s, input_format, field, then,
                             max_bad_records, on_progress)

    # For foreign event loops; for asyncio there is aios.aio.

    def poll_fd(self) -> int:
        """A descriptor to watch for reading, level-triggered: never read or close it.

        Between `arm` and the next `dispatch` or `disarm` it is readable as soon as something of
        this instance has something to do. <aios/aios.h> has the loop.
        """
        fd = ctypes.c_int()
        check(lib.aios_poll_fd(self._native(), ctypes.byref(fd)))
        return fd.value

    def arm(self) -> bool:
        """True: there is something to dispatch already, and it is not armed."""
        ready = ctypes.c_int()
        check(lib.aios_arm(self._native(), ctypes.byref(ready)))
        return ready.value != 0

    def disarm(self) -> None:
        """Undoes `arm` without doing anything."""
        check(lib.aios_disarm(self._native()))

    def dispatch(self) -> None:
        """Disarms and does what there is to do. `Unreachable`: the instance has ended."""
        check(lib.aios_dispatch(self._native()))


def attach(socket_path: str | os.PathLike[str] | None = None, *, job_name: str | None = None,
           memory_bytes: int = 0, never_spin: bool = False) -> Instance:
    """Connects to a running instance and joins a job of it.

    Without a `socket_path` to $AIOS_SOCKET, the user's own instance, or the system's; without a
    `job_name` to the job $AIOS_JOB, or the user's own. `memory_bytes` is the quota of a job that
    this attach makes, 0: its parent's. By default a wait looks for an answer before it sleeps, for as long as
    that has paid of late; with `never_spin` it sleeps at once.

    Raises `Unreachable`, `Denied` (another user's instance), `Quota`, `VersionMismatch`.
    """
    options = AttachOptions(
        socket_path=None if socket_path is None else text(os.fspath(socket_path), "socket_path"),
        job_name=None if job_name is None else text(job_name, "job_name"),
        memory_bytes=unsigned(memory_bytes, "memory_bytes"),
        flags=ATTACH_NEVER_SPIN if never_spin else 0)
    instance = Owned(lib.aios_detach)
    check(lib.aios_attach(ctypes.byref(options), ctypes.byref(instance)))
    return Instance(instance)
