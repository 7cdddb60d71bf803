"""Storage on a disk without room: a put is refused with the reason and changes nothing, what was there
stays, removing makes room, and then puts go on. On a small file system of the test's own."""

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from instance import Instance, expect, run_test  # noqa: E402

MIB = 1 << 20
DISK_MIB = 64
OBJECT_MIB = 4
SKIPPED = 77


def enter_small_disk():
    """Begins again in a mount namespace, where a small tmpfs is the folder for temporary files."""
    if os.geteuid() != 0:
        print("needs root, to mount a small disk")
        sys.exit(SKIPPED)
    os.execvp("unshare", ["unshare", "--mount", sys.executable, __file__, *sys.argv[1:], "inside"])


def fill(instance, source):
    """Puts objects until one is refused: those that were taken, and what was said of the other."""
    for number in range(2 * DISK_MIB // OBJECT_MIB):
        result = instance.try_ctl("fs", "put", source, f"fill/{number}")
        if result.returncode != 0:
            return number, result
    expect(False, "the disk never fills")


def main():
    if sys.argv[-1] != "inside":
        enter_small_disk()
    disk = tempfile.mkdtemp(prefix="aios-full-disk-")
    try:
        with tempfile.TemporaryDirectory(prefix="aios-full-disk-source-") as outside:
            os.environ["TMPDIR"] = disk
            expect(os.system(f"mount -t tmpfs -o size={DISK_MIB}m tmpfs {disk}") == 0, "mount fails")
            tempfile.tempdir = None
            source = Path(outside) / "object"
            source.write_bytes(os.urandom(OBJECT_MIB * MIB))
            with Instance(sys.argv[1]) as instance:
                check(instance, source, Path(outside))
    finally:
        # The mount goes with the namespace.
        os.system(f"umount -l {disk}")
        os.rmdir(disk)


def check(instance, source, outside):
    taken, refused = fill(instance, source)
    expect(taken > 0, f"not even one object fits: {refused.stderr}")
    expect(refused.returncode == 1 and "disk is full" in refused.stderr,
           f"refused with exit code {refused.returncode}: {refused.stderr!r}")
    names = [line.split()[-1] for line in instance.ctl("fs", "ls").splitlines()]
    expect(not any(name.endswith(f"fill/{taken}") for name in names), f"what was refused is there: {names}")
    back = outside / "back"
    for number in range(taken):
        instance.ctl("fs", "get", f"fill/{number}", back)
        expect(back.read_bytes() == source.read_bytes(), f"object {number} changed")
        back.unlink()
    instance.ctl("fs", "rm", "fill/0")
    instance.ctl("fs", "put", source, "again")
    instance.wait_running()


if __name__ == "__main__":
    sys.exit(run_test(main))
