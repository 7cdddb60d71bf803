"""A virtual machine: Debian's kernel and an initramfs in QEMU, without disk and network."""

import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from image import run_in_front

KVM_DEADLINE_S = 8
# What aios-init says once the command has ended well.
GOOD_END = b"the command ended with 0,"


def nodes_of(options):
    """What divides the machine: processor i and its like belong to node i."""
    if options.numa_nodes == 1:
        return []
    share = options.memory_mb // options.numa_nodes
    words = []
    for node in range(options.numa_nodes):
        cpus = "".join(f",cpus={cpu}" for cpu in range(node, options.cpus, options.numa_nodes))
        words += ["-object", f"memory-backend-ram,id=memory{node},size={share}M",
                  "-numa", f"node,nodeid={node},memdev=memory{node}{cpus}"]
    return words


def start_command(kernel, initramfs, accelerator, options, arguments=(), results=os.devnull):
    """QEMU's command line. The first serial port is this terminal, the second the file `results`."""
    # 5-level page tables make TCG slow; "host" is the one model that KVM has everywhere.
    model = "host" if accelerator == "kvm" else "max,la57=off"
    # quiet: warnings and worse. Under TCG the check of the timer fails on a busy host, for nothing.
    words = ["console=ttyS0", "quiet", "loglevel=3", "panic=-1", "no_timer_check",
             *options.environment, "--", *arguments]
    return ["qemu-system-x86_64", "-no-user-config", "-nodefaults", "-no-reboot", "-display", "none",
            "-machine", "q35", "-accel", accelerator, "-cpu", model, "-smp", str(options.cpus),
            "-m", str(options.memory_mb), *nodes_of(options), "-kernel", str(kernel), "-initrd", str(initramfs),
            "-append", " ".join(words),
            "-chardev", "stdio,id=console,signal=off,mux=on", "-mon", "chardev=console",
            "-serial", "chardev:console", "-serial", f"file:{results}"]


def why_not_kvm(kernel, initramfs, options):
    """Empty when a machine boots under KVM; else what is wrong. A KVM may be there and hang, or
    refuse what QEMU asks of it: so a whole machine is tried, which takes a second where it works."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "there is no /dev/kvm that this user may open"
    command = start_command(kernel, initramfs, "kvm", options, ["true"])
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=KVM_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        return f"a machine under KVM hung for {KVM_DEADLINE_S} s"
    if GOOD_END in done.stdout:
        return ""
    complaint = done.stderr.decode(errors="replace").strip().splitlines()
    return "a machine under KVM did not come up" + (f" ({complaint[0]})" if complaint else "")


def choose_accelerator(wanted, kernel, initramfs, options, say):
    if wanted != "auto":
        return wanted
    problem = why_not_kvm(kernel, initramfs, options)
    if not problem:
        return "kvm"
    say(f"{problem}: going on without, slower")
    return "tcg"


def unpack_results(packed, folder):
    """What the command left in /results, and its exit code; None when the machine ended early."""
    try:
        with tarfile.open(packed) as archive:
            archive.extractall(folder)
        code = Path(folder, ".exit-code")
        value = int(code.read_text(encoding="ascii"))
        code.unlink()
        return value
    except (OSError, EOFError, ValueError, tarfile.TarError):
        return None


def run_machine(kernel, initramfs, accelerator, options):
    """Runs a machine until it ends; the exit code of its command, None when that is not known."""
    with tempfile.TemporaryDirectory(prefix="aios-qemu-") as work:
        packed = Path(work, "results")
        command = start_command(kernel, initramfs, accelerator, options, ["aios-command"], packed)
        run_in_front(command, options.deadline)
        folder = options.results or Path(work, "unpacked")
        Path(folder).mkdir(parents=True, exist_ok=True)
        return unpack_results(packed, folder)
