"""`aiosctl bench mapreduce`: its form, that its text is always the same, and that what it is measured
beside is what it always was. Whether the figures are good is not for a test to say."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
from instance import expect, run_test  # noqa: E402
from schema import check  # noqa: E402

# A faster or slower baseline makes another ratio: change it knowingly, and measure again.
BASELINE_SHA256 = "92910f99e7e81b9ff5f9d0c973c146f34ef23546fd432df3b1d5ef76bdd41d26"
SIZE_MB = 3
CORPUS_XXH3 = "cbdb3113cf04a2da"


def bench(aiosctl, *options):
    return subprocess.run([aiosctl, "bench", "mapreduce", *map(str, options)], capture_output=True,
                          text=True, timeout=150, check=False)


def all_tests(aiosctl):
    source = (ROOT / "tests/bench/wordcount_baseline.cpp").read_bytes()
    expect(hashlib.sha256(source).hexdigest() == BASELINE_SHA256, "the baseline is another one")
    done = bench(aiosctl, "--size-mb", SIZE_MB, "--rounds", 2, "--json")
    expect(done.returncode == 0, f"bench: {done.returncode} {done.stderr}")
    figures = json.loads(done.stdout)
    check(figures, json.loads((ROOT / "abi/schema/bench-mapreduce.json").read_text()), "bench")
    expect(figures["corpus_bytes"] == SIZE_MB * 1_000_000, f"the text: {figures}")
    expect(figures["corpus_xxh3"] == CORPUS_XXH3, f"another text: {figures['corpus_xxh3']}")
    systems = {name: set(case) - {"duckdb"} for name, case in figures["cases"].items()}
    expect(systems == {"wordcount": {"aios", "bound", "baseline"},
                       "sort": {"aios", "bound", "gnu_sort"},
                       "inverted-index": {"aios", "bound"}}, f"measured {systems}")
    table = bench(aiosctl, "--corpus", ROOT / "README.md", "--rounds", 1, "--only", "sort")
    expect(table.returncode == 0 and "gnu_sort" in table.stdout, f"the table: {table}")
    missing = bench(aiosctl, "--corpus", "/no/such/text", "--rounds", 1)
    expect(missing.returncode == 1 and "/no/such/text" in missing.stderr, f"no text: {missing}")


if __name__ == "__main__":
    sys.exit(run_test(lambda: all_tests(sys.argv[1])))
