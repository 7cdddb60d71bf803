"""aiosctl shell: lines of a script, and a person at a terminal with completion, history and Ctrl-C."""

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from instance import COMMAND_TIMEOUT_S, Instance, expect, run_test  # noqa: E402
from terminal import Terminal  # noqa: E402

PROMPT = "aios> "


def script(instance, text):
    """`text` as the standard input of a shell, run to its end."""
    return subprocess.run(instance.command("shell"), input=text, env=instance.environment,
                          capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)


def check_scripts(instance):
    spaced = instance.work / "two words"
    spaced.write_text("stored text", encoding="utf-8")
    done = script(instance, f"# a comment\n\n  fs put '{spaced}' object\n!echo from sh\n"
                            "fs cat object\n")
    expect(done.returncode == 0 and "from sh\n" in done.stdout
           and done.stdout.endswith("stored text"), f"a script: {done}")
    status = script(instance, "status --json")
    expect(len(json.loads(status.stdout)["servers"]) > 1, "a last line without its end is not run")
    left = script(instance, "fs stat nothing-there\nexit\nstatus\n")
    expect(left.returncode == 1 and left.stdout == "", f"exit: {left}")
    for line, word in [("fs put 'open", "quote"), ("ps | head", "quoted"), ("fs cat $(id)", "subst"),
                       ("no-such-command", "no-such-command")]:
        wrong = script(instance, line)
        expect(wrong.returncode == 2 and word in wrong.stderr + wrong.stdout, f"{line}: {wrong}")


def check_files(instance):
    """A script in a file stops where it fails, and says where; what it runs has the shell's input."""
    path = instance.work / "script"

    def run(text, *words, data=""):
        path.write_text(text, encoding="utf-8")
        return subprocess.run(instance.command("shell", *words), input=data, env=instance.environment,
                              capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)

    done = run("# a script\nfs put - piped\n\nfs cat piped\nexit\nno-such\n", path, data="the input")
    expect(done.returncode == 0 and done.stdout == "the input", f"a script: {done}")
    for words, name in (([path], str(path)), (["-"], "standard input")):
        text = "!echo one\nfs stat nothing-there\n!echo two"
        failed = run(text, *words, data=text)
        expect(failed.returncode == 1 and failed.stdout == "one\n", f"a line fails: {failed}")
        expect(f"{name}:2: failed with exit code 1" in failed.stderr, f"a line fails: {failed}")
    wrong = run("status\nfs put 'open\n", path)
    expect(wrong.returncode == 2 and f"{path}:2:" in wrong.stderr, f"no quote: {wrong}")
    binary = run("\0\n", path)
    expect(binary.returncode == 2 and "is this a script" in binary.stderr, f"bytes of 0: {binary}")
    for name, words in ((instance.work, "directory"), (instance.work / "none", "No such file")):
        missing = run("", name)
        expect(missing.returncode == 1 and str(name) in missing.stderr and words in missing.stderr,
               f"{missing}")


def shell_of(instance, *options, **environment):
    command = [instance.aiosctl, *options, "shell"] if options else instance.command("shell")
    return Terminal(command, {**instance.environment, "TERM": "vt100", **environment})


def check_terminal(instance):
    shell = shell_of(instance)
    shell.expect("Ctrl-D leaves")
    shell.expect(PROMPT)
    shell.type("dev\t\n")
    shell.expect("DEVICE")
    shell.expect(PROMPT)
    # The second word is completed among the subcommands of the first.
    shell.type("fs ca\tobject\n")
    shell.expect("stored text")
    shell.expect(PROMPT)
    # Completion shows that the terminal is no longer in its own mode, in which Ctrl-C would be lost.
    shell.type("stat\t")
    shell.expect("us ")
    shell.type("\x03")
    shell.expect(PROMPT)
    # What is running ends by Ctrl-C, and the shell does not.
    shell.type("logs supervisor -f\n")
    shell.expect("runs as pid")
    shell.type("\x03")
    shell.expect(PROMPT)
    shell.type("!exit 5\n")
    shell.expect(PROMPT)
    code = shell.end("exit\n")
    expect(code == 5, f"the last line's exit code was 5, the shell's is {code}")
    again = shell_of(instance)
    again.expect(PROMPT)
    again.type("\x1b[A\x1b[A\x1b[A\n")
    again.expect("runs as pid")
    again.type("\x03")
    again.expect(PROMPT)
    # Ctrl-U takes the line back, and Ctrl-D leaves an empty one.
    again.type("stat\t")
    again.expect("us ")
    again.type("\x15!exit 6\n")
    again.expect(PROMPT)
    again.type("stat\t")
    again.expect("us ")
    code = again.end("\x15\x04")
    expect(code == 6, f"the last line's exit code was 6, the shell's is {code}")


def check_new_state(instance):
    """What a shell makes for its history is as private as what boot makes."""
    state = instance.work / "new"
    shell = shell_of(instance, "--state", str(state))
    shell.expect(PROMPT)
    expect(shell.end("exit\n") == 0, "the shell failed")
    expect((state / "shell-history").exists() and state.stat().st_mode & 0o777 == 0o700,
           f"the state folder: {state.stat().st_mode:o}")


def check_other_letters(instance):
    """Letters beyond ASCII name what they say, also where the locale knows none; a line with half of one
    in it names nothing."""
    (instance.work / "ab").write_text("not meant", encoding="utf-8")
    (instance.work / "é").write_text("meant", encoding="utf-8")
    shell = shell_of(instance, LC_ALL="C")
    shell.expect(PROMPT)
    shell.type(f"!cd '{instance.work}' && exec rm é\n")
    shell.expect(PROMPT)
    shell.type(f"!rm '{instance.work}'/".encode() + b"\xe9b\n")
    shell.expect("the line is not run")
    shell.expect(PROMPT)
    code = shell.end("exit\n")
    left = [name for name in ("ab", "é") if (instance.work / name).exists()]
    expect(code == 2 and left == ["ab"], f"the shell ended with {code}, and left {left}")


def main():
    with Instance(sys.argv[1]) as instance:
        check_scripts(instance)
        check_files(instance)
        check_terminal(instance)
        check_other_letters(instance)
        check_new_state(instance)


if __name__ == "__main__":
    sys.exit(run_test(main))
