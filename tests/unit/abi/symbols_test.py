"""symbols.py notices a symbol that came, went or changed, and refuses to record it in silence.

usage: symbols_test.py LIBRARY VERSION RECORD
"""

import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "symbols.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], check=False,
                          capture_output=True, text=True)


def main():
    library, version, record = sys.argv[1:]
    lines = Path(record).read_text(encoding="utf-8").splitlines()
    other = f"# What libaios 9.9.9 exports{lines[0].partition('exports')[2]}"
    changes = {
        "one is missing in the record": lines[:1] + lines[2:],
        "one more is recorded": lines + ["aios_more@@AIOS_0.1"],
        "one is recorded under another node": [lines[0], lines[1].replace("0.1", "0.0"), *lines[2:]],
        "another version is recorded": [other, *lines[1:]],
    }
    with tempfile.TemporaryDirectory(prefix="aios-symbols-") as folder:
        changed = Path(folder) / "record"
        for what, text in changes.items():
            changed.write_text("\n".join(text) + "\n", encoding="utf-8")
            if run(library, version, changed).returncode == 0:
                sys.exit(f"not noticed: {what}")
            refused = run("--update", library, version, changed).returncode != 0
            if refused != (text[0] == lines[0]):
                sys.exit(f"recording was {'refused' if refused else 'allowed'}: {what}")
        if run(library, version, changed).returncode != 0:
            sys.exit("what was recorded anew is not what is compared")


if __name__ == "__main__":
    main()
