"""The unit of the system instance, as systemd reads it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
from instance import expect, run_test  # noqa: E402


def body():
    aiosctl, unit, groups = map(os.path.abspath, sys.argv[1:4])
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        print("SKIPPED: systemd-analyze is not installed (apt-get install systemd)")
        return
    text = Path(unit).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="aios-test-") as folder:
        copy = Path(folder, "aios.service")
        # It insists on a program that is there.
        command = [line for line in text.splitlines() if line.startswith("ExecStart=")][0]
        program = command.removeprefix("ExecStart=").split()[0]
        copy.write_text(text.replace(program, aiosctl), encoding="utf-8")
        result = subprocess.run([analyze, "verify", "--man=no", str(copy)], text=True,
                                capture_output=True, timeout=60, check=False)
        said = [line for line in result.stderr.splitlines() if "aios" in line]
        expect(result.returncode == 0 and not said, f"systemd-analyze verify: {result.stderr}")
        sysusers = shutil.which("systemd-sysusers")
        if sysusers:
            rules = Path(folder, "usr/lib/sysusers.d/aios.conf")
            rules.parent.mkdir(parents=True)
            shutil.copy(groups, rules)
            Path(folder, "etc").mkdir()
            made = subprocess.run([sysusers, f"--root={folder}"], text=True, capture_output=True,
                                  timeout=60, check=False)
            expect("aios:" in Path(folder, "etc/group").read_text(encoding="utf-8"),
                   f"systemd-sysusers makes no group: {made.stderr}")


if __name__ == "__main__":
    sys.exit(run_test(body))
