"""What a machine and a container of AIOS are made of: one root folder, and Debian's kernel.

Needs no root. The same build gives the same bytes.
"""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent
KERNEL_PACKAGE = "linux-image-cloud-amd64"
DOWNLOAD_TIMEOUT_S = 120
# Below the prefix of the build; headers and static libraries are for compilers.
INSTALLED = ["bin", "libexec", "lib"]
LEFT_OUT = shutil.ignore_patterns("*.a", "pkgconfig")
FOLDERS = ["dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/lib",
           "usr/lib64", "usr/sbin", "usr/share/aios", "var"]
MERGED = ["bin", "lib", "lib64", "sbin"]
# Commands, and the packages that bring them.
NEEDED = {
    "qemu": {"apt-get": "apt", "busybox": "busybox-static", "cpio": "cpio", "meson": "meson",
             "qemu-system-x86_64": "qemu-system-x86", "zstd": "zstd"},
    "container": {"buildah": "buildah", "busybox": "busybox-static", "meson": "meson",
                  "runc": "runc"},
}
# What modules of jobs may need besides the C++ library, though nothing here is linked to it:
# drivers/cpu/elf_check.cpp.
MODULE_LIBRARIES = ["libdl.so.2", "libpthread.so.0", "librt.so.1"]
TEXTS = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
                  "nobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
    "etc/hostname": "aios\n",
}


class Unavailable(Exception):
    """Something that this host does not have; the text says what, and how to get it."""


def find_command(name):
    """The path of a command, which may lie where an ordinary user's PATH does not lead, or None."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


def need_commands(where):
    """The paths of what `where` needs, by name; Unavailable, with all that is missing."""
    found = {name: find_command(name) for name in NEEDED[where]}
    missing = sorted({NEEDED[where][name] for name, path in found.items() if path is None})
    if missing:
        raise Unavailable(f"packages are missing; to install them: apt-get install "
                          f"{' '.join(missing)}")
    return found


def run(*command, **options):
    """A command that has to succeed; its standard output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n"
                           f"{done.stdout}{done.stderr}")
    return done.stdout


def run_in_front(command, deadline_s):
    """A command that has this terminal until it ends; its exit code. What asks this process to end
    asks the command, and so does this process's death. After the deadline it is ended, and
    TimeoutExpired is raised."""
    child = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command])
    before = {number: signal.signal(number, lambda *_: child.terminate())
              for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        return child.wait(deadline_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def install_aios(build, root):
    """Puts what `meson install` installs into `root`, and leads to it from where it is looked for."""
    stage = root.parent / (root.name + ".stage")
    shutil.rmtree(stage, ignore_errors=True)
    run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--strip", "--destdir", stage)
    found = list(stage.rglob("bin/aiosctl"))
    if len(found) != 1:
        raise RuntimeError(f"{build} installs aiosctl {len(found)} times")
    prefix = found[0].parent.parent.relative_to(stage)
    for name in INSTALLED:
        shutil.copytree(stage / prefix / name, root / prefix / name, symlinks=True,
                        ignore=LEFT_OUT, dirs_exist_ok=True)
    shutil.rmtree(stage)
    inside = Path("/") / prefix
    if inside != Path("/usr"):
        (root / "usr/bin/aiosctl").symlink_to(inside / "bin/aiosctl")
    (root / "init").symlink_to(inside / "libexec/aios/aios-init")


def install_busybox(root):
    busybox = find_command("busybox")
    shutil.copyfile(busybox, root / "usr/bin/busybox")
    (root / "usr/bin/busybox").chmod(0o755)
    for applet in run(busybox, "--list").split():
        path = root / "usr/bin" / applet
        if not path.exists():
            path.symlink_to("busybox")


def is_elf(path):
    if path.is_symlink() or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def shared_libraries(program, search):
    """What the dynamic loader of this host would load for `program`, the loader included."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False,
                            env={**os.environ, "LC_ALL": "C", "LD_LIBRARY_PATH": search}).stdout
    missing = re.search(r"^\s*(\S+) => not found", listed, re.MULTILINE)
    if missing:
        raise RuntimeError(f"{program} needs {missing.group(1)}, which is not installed here")
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", listed)}


def copy_libraries(root):
    """Adds the shared libraries that the programs below `root` need and do not bring along."""
    own = sorted({path.parent for path in root.rglob("*.so.*")})
    search = ":".join(map(str, own))
    libraries = set()
    for program in filter(is_elf, list(root.rglob("*"))):
        libraries |= shared_libraries(program, search)
    for path in list(libraries):
        if path.name == "libc.so.6":
            libraries |= {path.parent / name for name in MODULE_LIBRARIES}
    for library in libraries:
        if root in library.parents:
            continue
        folder = "usr/lib64" if library.name.startswith("ld-linux") else "usr/lib"
        shutil.copyfile(library, root / folder / library.name)
        (root / folder / library.name).chmod(0o755)
    listed = ["/usr/lib", *("/" + str(folder.relative_to(root)) for folder in own)]
    (root / "etc/ld.so.conf").write_text("\n".join(listed) + "\n", encoding="utf-8")
    run(find_command("ldconfig"), "-X", "-r", root)


def settle(root):
    """Modes and times that depend on nobody's umask or clock."""
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (0, 0), follow_symlinks=False)
    (root / "tmp").chmod(0o1777)


def make_root(build, root, extra=None):
    """Makes `root` anew: the AIOS of a build folder, a busybox, and the files of the folder `extra`
    where they lie in it."""
    shutil.rmtree(root, ignore_errors=True)
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    for name in MERGED:
        (root / name).symlink_to("usr/" + name)
    for name, text in TEXTS.items():
        (root / name).write_text(text, encoding="utf-8")
    shutil.copyfile(SOURCE / "README.md", root / "usr/share/aios/README.md")
    shutil.copyfile(SOURCE / "tools/boot/prompt", root / "usr/bin/aios-prompt")
    (root / "usr/bin/aios-prompt").chmod(0o755)
    # What the common kinds of terminals can do.
    shutil.copytree("/lib/terminfo", root / "lib/terminfo", symlinks=True)
    install_aios(build, root)
    install_busybox(root)
    if extra is not None:
        shutil.copytree(extra, root, symlinks=True, dirs_exist_ok=True)
    copy_libraries(root)
    settle(root)


def make_initramfs(root, target):
    """Packs `root` into what the Linux kernel unpacks when it starts."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    with open(target, "wb") as out:
        packer = subprocess.Popen(["cpio", "--create", "--null", "--format=newc", "--quiet",
                                   "--reproducible", "--owner=+0:+0"], cwd=root,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        squeezer = subprocess.Popen(["zstd", "-q", "-3", "-T1"], stdin=packer.stdout, stdout=out)
        packer.stdout.close()
        packer.communicate("\0".join(names).encode() + b"\0")
        if squeezer.wait() != 0 or packer.returncode != 0:
            raise RuntimeError(f"could not pack {root} into {target}")


def fetch_kernel(cache):
    """The path of Debian's cloud kernel, unpacked from its package below `cache`: nothing is
    installed. It is downloaded once."""
    listed = subprocess.run(["apt-cache", "depends", KERNEL_PACKAGE], capture_output=True,
                            text=True, check=False, env={**os.environ, "LC_ALL": "C"}).stdout
    package = re.search(r"Depends: (linux-image-\S+)", listed)
    if package is None:
        raise Unavailable(f"apt knows no package {KERNEL_PACKAGE}; try: apt-get update")
    folder = cache / package.group(1)
    if not (folder / "boot").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        work = cache / "download"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            run("apt-get", "download", package.group(1), cwd=work, timeout=DOWNLOAD_TIMEOUT_S)
        except (RuntimeError, subprocess.TimeoutExpired) as failure:
            raise Unavailable(f"could not download {package.group(1)}; try: apt-get update\n"
                              f"{failure}") from failure
        run("dpkg-deb", "-x", next(work.glob("*.deb")), work / "unpacked")
        (work / "unpacked").rename(folder)
        shutil.rmtree(work)
    return next((folder / "boot").glob("vmlinuz-*"))
