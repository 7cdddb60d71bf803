"""What both boot tests do: an image with the test in it, a start, and a comparison on this host."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
sys.path[:0] = [str(TESTS / "support"), str(ROOT / "tools/boot")]
from corpus import make_cut, same_bytes, write_reference  # noqa: E402
from examples import EXAMPLES, LANGUAGES, PRINTED, Prefix  # noqa: E402
from image import Unavailable  # noqa: E402
from instance import Failure, expect  # noqa: E402

INPUT_BYTES = 2_000_000
EXIT_SKIPPED = 77


def make_additions(build, folder, *programs):
    """What the image has beside AIOS: the input, the programs of abi/examples and those of the
    build that are named, the test."""
    test = folder / "add/test"
    make_cut(test / "input", INPUT_BYTES)
    (test / "programs").mkdir()
    prefix = Prefix(build, folder / "prefix")
    for language in LANGUAGES:
        prefix.programs(EXAMPLES, test / "programs", language)
    prefix.module(EXAMPLES, test / "programs")
    for program in (TESTS / "boot/inside", *(build / name for name in programs)):
        shutil.copy(program, test)
    write_reference(test / "input", folder / "reference")
    return folder / "add"


def start(where, deadline_s, *arguments, prefix=(), tools=ROOT):
    """tools/boot/start to its end; its console goes to our output."""
    command = [*prefix, tools / "tools/boot/start", where, "--deadline", deadline_s, *arguments]
    # The margin is for making the image, which the deadline does not cover.
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                          timeout=deadline_s + 60, check=False)
    expect(done.returncode == 0, f"{where}: exit code {done.returncode}; its console is above")


def check_results(results, reference, user):
    """What came out for a user is what this host says must come out."""
    folder = results / user
    expect(same_bytes(reference, folder / "words/part-00000"),
           f"{user}: the words are counted otherwise than by coreutils on this host")
    job = json.loads((folder / "wordcount").read_text(encoding="utf-8"))
    expect(job["input_bytes"] == INPUT_BYTES, f"{user}: {job['input_bytes']} bytes were read")
    for name in ("echo_client", "share", "storage", "tasks"):
        for language in LANGUAGES:
            printed = (folder / f"{name}-{language}").read_text(encoding="utf-8")
            expect(printed == PRINTED[name], f"{user}: {name} in {language} printed {printed!r}")
    status = json.loads((folder / "status").read_text(encoding="utf-8"))
    expect(status["user_namespaces"] is True, f"{user}: contexts have no namespaces")
    expect(len(status["servers"]) > 1, f"{user}: there are no servers")
    print(f"{user}: the same as on this host", flush=True)


@contextlib.contextmanager
def work_folder():
    folder = Path(tempfile.mkdtemp(prefix="aios-boot-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_boot_test(body):
    """Runs body(build folder); the exit code for Meson."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        body(Path(sys.argv[1]).resolve())
    except Unavailable as reason:
        print(f"SKIPPED: {reason}", flush=True)
        return EXIT_SKIPPED
    except (Failure, subprocess.SubprocessError) as failure:
        print(f"FAILED: {failure}", flush=True)
        return 1
    return 0
