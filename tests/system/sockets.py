"""Where an instance is to serve there may be something already."""

import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from instance import BOOT_TIMEOUT_S, COMMAND_TIMEOUT_S, Failure, Instance, expect, run_test  # noqa: E402

ROUNDS = 3


def boot(instance, state, path):
    return subprocess.Popen([instance.aiosctl, "--state", state, "--socket", path, "boot", "--detach"],
                            env=instance.environment, text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end_of(program, timeout_s):
    try:
        output, errors = program.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as late:
        program.kill()
        raise Failure(f"{program.args} hung") from late
    return program.returncode, output, errors


def shut_down(instance, path):
    ended = subprocess.run([instance.aiosctl, "--socket", path, "shutdown"], env=instance.environment, text=True,
                           capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)
    expect(ended.returncode == 0, f"{ended}")


def files_and_listeners_are_left_alone(instance):
    path = instance.work / "mine.txt"
    path.write_text("mine", encoding="utf-8")
    code, _, errors = end_of(boot(instance, instance.work / "other", path), BOOT_TIMEOUT_S)
    expect(code == 1 and "is not a socket" in errors, f"{code}: {errors}")
    expect(path.read_text(encoding="utf-8") == "mine", "the file is another now")
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        code, _, errors = end_of(boot(instance, instance.work / "other", path), BOOT_TIMEOUT_S)
        expect(code == 1 and "another program listens" in errors, f"{code}: {errors}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.connect(str(path))
    # At this one nobody listens now.
    code, _, errors = end_of(boot(instance, instance.work / "other", path), BOOT_TIMEOUT_S)
    expect(code == 0, f"{code}: {errors}")
    shut_down(instance, path)


def of_two_at_once_one_is_up(instance):
    path = instance.work / "shared.sock"
    for _ in range(ROUNDS):
        programs = [boot(instance, instance.work / name, path) for name in ("first", "second")]
        ends = [end_of(program, BOOT_TIMEOUT_S) for program in programs]
        expect(sorted(code for code, _, _ in ends) == [0, 1], f"{ends}")
        shut_down(instance, path)


def main():
    with Instance(sys.argv[1]) as instance:
        files_and_listeners_are_left_alone(instance)
        of_two_at_once_one_is_up(instance)


if __name__ == "__main__":
    sys.exit(run_test(main))
