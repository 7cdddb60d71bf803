"""AIOS for Python: shared memory, calls, storage, tasks and MapReduce of a running instance.

    with aios.attach() as instance:
        with instance.create_region(1 << 20) as region:
            numbers = region.array("float32")  # NumPy, without a copy
            numbers[:] = 1
            instance.storage().put_region("ones", region)

`attach` gives an `Instance`; everything else is made of it. Names and meaning are those of the C
headers of libaios. Errors are exceptions, one class for each code, below `Error`. Times are
seconds; a timeout of None never passes, 0 means "look only". What waits for a single thing raises
`TimedOut` when the time has passed, what answers a list answers an empty one.

Blocking calls let other threads run. In the main thread signals are handled, and Ctrl-C takes
effect, within a tenth of a second; calls of `Storage` and `Tenant` that storage or the scheduler
answer come to their end first. `aios.aio` is for asyncio.
"""

from . import aio, errors
from ._native import (MAX_OBJECT_NAME_BYTES, MAX_REPLY_BYTES, MAX_REQUEST_BYTES, Access, Mode,
                      Phase, lib)
from .errors import (AlreadyExists, BadHandle, Busy, Cancelled, Code, Corrupt, Crashed, Denied,
                     Error, Indeterminate, Internal, InvalidArgument, IoError, NoMemory, NoSpace,
                     NotFound, NotSupported, PeerClosed, ProtocolError, Quota, ServiceDown,
                     SourceChanged, TimedOut, TooLarge, TooLate, Unreachable, VersionMismatch,
                     WrongType)
from .instance import Instance, attach
from .mapreduce import Progress, Result, Stage
from .region import Region
from .server import Peer, Request, Server
from .service import Call, Service
from .storage import ObjectEntry, ObjectInfo, Storage
from .tasks import BufferId, CodeletId, Completion, Device, Graph, Offer, Prediction, Task, Tenant
from .waiting import wait

# Of the library in use.
__version__: str = lib.aios_version().decode()

__all__ = [
    "Access", "AlreadyExists", "BadHandle", "BufferId", "Busy", "Call", "Cancelled", "Code",
    "CodeletId", "Completion", "Corrupt", "Crashed", "Denied", "Device", "Error", "Graph",
    "Indeterminate",
    "Instance", "Internal", "InvalidArgument", "IoError", "MAX_OBJECT_NAME_BYTES", "MAX_REPLY_BYTES",
    "MAX_REQUEST_BYTES", "Mode", "NoMemory", "NoSpace", "NotFound", "NotSupported", "ObjectEntry",
    "ObjectInfo", "Offer", "Peer", "PeerClosed", "Phase", "Prediction", "Progress", "ProtocolError", "Quota",
    "Region",
    "Request", "Result", "Server", "Service", "ServiceDown", "SourceChanged", "Stage", "Storage", "Task",
    "Tenant", "TimedOut", "TooLarge", "TooLate", "Unreachable", "VersionMismatch", "WrongType", "aio",
    "attach", "errors", "wait",
]
