"""Real text to count words in, and what the count must be."""

import os
import subprocess
from pathlib import Path

from instance import expect

SOURCE = "/usr/include"


def make_cut(folder, size_bytes):
    """Fills `folder` with files of /usr/include, in sorted order, until they have `size_bytes` in
    all; the last one is cut. Where /usr/include is smaller, it is taken again."""
    left = size_bytes
    turn = 0
    while left > 0:
        before = left
        for parent, folders, names in os.walk(SOURCE):
            folders.sort()
            for name in sorted(names):
                path = Path(parent, name)
                if left <= 0 or not path.is_file() or path.is_symlink():
                    continue
                data = path.read_bytes()[:left]
                target = Path(folder, str(turn), path.relative_to(SOURCE))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                left -= len(data)
        expect(left < before, f"there is no text in {SOURCE}")
        turn += 1


def write_reference(folder, target):
    """Counts the words of all files below `folder` with coreutils, as lines of word, tab and count
    sorted by the bytes of the word. A word is a run of bytes that are not ASCII white space."""
    text = Path(str(target) + ".text")
    with open(text, "wb") as out:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                # Words do not go on from one file into the next.
                out.write(path.read_bytes() + b"\n")
    pipeline = r"tr -s ' \t\n\v\f\r' '\n' <\"$1\" | sort | uniq -c".replace('\\"', '"')
    counted = subprocess.run(["bash", "-o", "pipefail", "-c", pipeline, "count", str(text)],
                             env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
                             stdout=subprocess.PIPE, check=True).stdout
    with open(target, "wb") as out:
        for line in counted.split(b"\n"):
            count, _, word = line.lstrip(b" ").partition(b" ")
            if word:
                out.write(word + b"\t" + count + b"\n")
    text.unlink()


def same_bytes(one, other):
    return subprocess.run(["cmp", str(one), str(other)], capture_output=True,
                          check=False).returncode == 0
