"""The symbols that libaios exports are those recorded, and change only together with its version.

usage: symbols.py LIBRARY VERSION RECORD     compares; exit code 1 when they differ
       symbols.py --update LIBRARY VERSION RECORD

RECORD begins with the library's version. `--update` records the symbols of a new version; it
refuses when they changed and the version did not.
"""

import re
import subprocess
import sys
from pathlib import Path

HEADER = "# What libaios {} exports, by nm -D; recorded by tests/unit/abi/symbols.py.\n"


def exported(library):
    """NAME@@NODE of every symbol that the library defines for others."""
    listed = subprocess.run(["nm", "-D", "--defined-only", "--with-symbol-versions", library],
                            check=True, capture_output=True, text=True).stdout
    names = (line.split()[-1] for line in listed.splitlines())
    # The version nodes themselves are absolute symbols.
    return sorted(name for name in names if not re.fullmatch(r"AIOS_[0-9.]+(@@.*)?", name))


def recorded(record):
    """The version and the symbols of a record."""
    lines = Path(record).read_text(encoding="utf-8").splitlines()
    version = re.match(r"# What libaios (\S+) exports", lines[0]).group(1)
    return version, lines[1:]


def compare(now, then, version, then_version):
    """Complaints, each one line."""
    wrong = [f"{name} is gone: programs that use it no longer start" for name in
             sorted(set(then) - set(now))]
    wrong += [f"{name} is new and not recorded" for name in sorted(set(now) - set(then))]
    wrong += [f"{name} has no version node" for name in now if "@@AIOS_" not in name]
    if version != then_version:
        wrong.append(f"recorded for version {then_version}, this is {version}")
    return wrong


def update(now, then, version, then_version, record):
    if now != then and version == then_version:
        changed = ", ".join(sorted(set(now) ^ set(then)))
        sys.exit(f"refused: {changed} changed, the version is still {version}; raise it in "
                 "meson.build first")
    Path(record).write_text(HEADER.format(version) + "\n".join(now) + "\n", encoding="utf-8")


def main():
    arguments = [a for a in sys.argv[1:] if a != "--update"]
    if len(arguments) != 3:
        sys.exit(__doc__)
    library, version, record = arguments
    now = exported(library)
    then_version, then = recorded(record)
    if "--update" in sys.argv:
        update(now, then, version, then_version, record)
        return 0
    wrong = compare(now, then, version, then_version)
    for complaint in wrong:
        print(complaint)
    if wrong:
        print("raise the version in meson.build, then record it:\n"
              f"  python3 tests/unit/abi/symbols.py --update {library} VERSION {record}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
