"""aiosctl simulate: what it prints keeps to its schema, is the same for the same seed, and every bad
graph is refused with what is wrong, where, and what would be right. No instance is needed.

usage: simulate.py AIOSCTL"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "support"))
from instance import expect  # noqa: E402
from schema import check  # noqa: E402

SCHEMA = json.loads((TESTS.parent / "abi/schema/simulate.json").read_text(encoding="utf-8"))
AIOSCTL = sys.argv[1]


def simulate(*arguments):
    # No instance is there, whoever runs one besides.
    return subprocess.run([AIOSCTL, "simulate", *arguments], capture_output=True, text=True,
                          check=False, env={**os.environ, "AIOS_SOCKET": "/nowhere/aios.sock"})


def check_little_memory():
    ended = subprocess.run(["/bin/sh", "-c", 'ulimit -v 120000; exec "$@"', "sh", AIOSCTL, "simulate",
                            "--generate", "cholesky:4", "--devices", "cpu:2"],
                           capture_output=True, text=True, check=False)
    expect(ended.returncode == 1 and "not enough memory" in ended.stderr,
           f"too little address space: exit code {ended.returncode}: {ended.stderr}")


def results(*arguments):
    ended = simulate(*arguments, "--json")
    expect(ended.returncode == 0, f"{arguments}: {ended.stderr}")
    value = json.loads(ended.stdout)
    check(value, SCHEMA)
    return value


def refused(code, words, *arguments):
    ended = simulate(*arguments)
    expect(ended.returncode == code, f"{arguments}: exit code {ended.returncode}, not {code}")
    for word in words:
        expect(word in ended.stderr, f"{arguments}: '{word}' is not in: {ended.stderr}")


def task(name, parents=(), **more):
    return {"name": name, "id": name, "parents": list(parents), **more}


def graph(tasks, runs=None):
    """A WfFormat text; every task ran for a second."""
    if runs is None:
        runs = [{"id": t["id"], "runtimeInSeconds": 1.0} for t in tasks]
    return json.dumps({"name": "test", "schemaVersion": "1.5", "workflow": {
        "specification": {"tasks": tasks, "files": []}, "execution": {"tasks": runs}}})


def check_results(folder):
    chain = folder / "chain.json"
    chain.write_text(graph([task("a"), task("b", ["a"]), task("c", ["b"])]), encoding="utf-8")
    found = results("--graph", str(chain), "--devices", "cpu:2", "--policy", "eager")
    expect(abs(found["makespan_s"] - 3) < 1e-6, "three tasks of a second, one after the other")
    expect(found["p95_coverage"] is None, "eager predicts nothing")
    wide = folder / "wide.json"
    wide.write_text(graph([task(f"t{i}") for i in range(40)] +
                          [task("end", [f"t{i}" for i in range(40)])]), encoding="utf-8")
    for policy in ("eager", "prio", "edf", "dmda", "heft", "learned"):
        found = results("--graph", str(wide), "--devices", "cpu:4", "--policy", policy)
        expect(abs(found["makespan_s"] - 11) < 1e-6, f"{policy}: {found['makespan_s']} s, not 11")
    options = ("--generate", "cholesky:6", "--noise", "0.3", "--ccr", "0.5", "--runs", "3")
    expect(results(*options)["devices"] == "cpu:8,gpu:2@20", "devices where none are told")
    first, again, other = (results(*options, "--seed", seed) for seed in "778")
    expect(first["makespans_s"] == again["makespans_s"], "the same seed, another makespan")
    expect(first["makespans_s"] != other["makespans_s"], "another seed, the same makespan")
    timed = ("--generate", "cholesky:6", "--noise", "0.3", "--runs", "20", "--learn-from", "10")
    easy = results(*timed, "--deadline", "10")
    expect((easy["rejections"], easy["deadline_misses"]) == (0, 0), "10 s are plenty")
    short = easy["makespan_s"] / 3
    expect(results(*timed, "--deadline", str(short))["rejections"] == 20, "nothing is that fast")
    blind = results(*timed, "--deadline", str(short), "--policy", "eager")
    expect((blind["rejections"], blind["deadline_misses"]) == (0, 20), "eager refuses nothing")
    cold = results(*options)
    warm = results(*options, "--learn-from", "8")
    expect(warm["mdape"] < cold["mdape"], "what was learned before did not help")
    for kind in ("lu:5", "qr:4", "stencil:6", "fft:8", "random:60:3"):
        found = results("--generate", kind, "--policy", "heft")
        expect(found["makespan_s"] >= found["lower_bound_s"] * 0.999999, f"{kind}: below the bound")


def check_odd_names(folder):
    """Names of files that are no UTF-8 end nothing, and no name drives the terminal."""
    one = os.path.join(os.fsencode(folder), b"\x1b\xff.json")
    with open(one, "w", encoding="utf-8") as file:
        file.write(graph([task("a")]))
    expect(results("--graph", one)["graph"] == "\x1b\N{REPLACEMENT CHARACTER}.json", "another name")
    said = subprocess.run([AIOSCTL, "simulate", "--graph", one], capture_output=True, check=False)
    expect(said.stdout.startswith(b"?\xff.json: 1 tasks"), f"{said}")


def check_refusals(folder):
    bad = folder / "bad.json"

    def file_refused(text, code, *words):
        bad.write_text(text, encoding="utf-8")
        refused(code, (str(bad), *words), "--graph", str(bad))

    file_refused("{", 2, "is no JSON", "line 1")
    file_refused("[]", 2, "schemaVersion")
    file_refused('{"schemaVersion": "1.3"}', 2, "1.3", "version 1.5")
    file_refused(graph([task("a", ["b"]), task("b", ["c"]), task("c", ["a"])]), 2, "circle",
                 "needs", "remove one")
    many = 65001
    file_refused(graph([task(f"t{i}", [f"t{i - 1 if i else many - 1}"]) for i in range(many)]), 1,
                 f"has {many} tasks", "at most 65000")
    file_refused(graph([task("a", ["zz"])]), 2, "tasks[0].parents", "zz")
    file_refused(graph([task("a"), task("a")]), 2, "tasks[1]", "id a")
    file_refused(graph([task("a")], []), 2, "execution.tasks", "no run of task a")
    file_refused(graph([task("a")], [{"id": "a", "runtimeInSeconds": -1}]), 2, "runtimeInSeconds")
    file_refused(graph([task("a", inputFiles=[3])]), 2, "inputFiles", "no text")
    file_refused(graph([]), 2, "no tasks")
    file_refused('{"runtimeInSeconds": 1e999}', 2, "is no JSON", "1e999")
    bad.write_text(graph([task("a"), task("b", ["a"])],
                         [{"id": name, "runtimeInSeconds": 1e15} for name in "ab"]), encoding="utf-8")
    refused(2, ["bad.json would run for longer than 285 years"], "--graph", str(bad))
    file_refused(graph([task("a\x1b[2J"), task("a\x1b[2J")]), 2, "id a?[2J")
    refused(1, ["read", "no-such-file"], "--graph", str(folder / "no-such-file"))
    refused(2, ["one graph"], "--policy", "heft")
    refused(2, ["policy 'best'", "learned"], "--generate", "lu:3", "--policy", "best")
    refused(2, ["generator 'tree'", "cholesky"], "--generate", "tree:3")
    refused(2, ["KIND:SIZE"], "--generate", "lu")
    refused(2, ["--generate", "smaller"], "--generate", "lu:500")
    refused(2, ["--generate", "only random"], "--generate", "lu:5:1")
    refused(2, ["KIND:COUNT"], "--generate", "lu:3", "--devices", "gpu")
    refused(2, ["speed"], "--generate", "lu:3", "--devices", "gpu:1@fast")
    refused(2, ["memories of their own"], "--generate", "lu:3", "--devices", "cpu:2", "--ccr", "1")
    refused(1, ["models", "machine 'none'"], "--generate", "lu:3", "--devices",
            f"cpu:2,models:{folder}/none")
    refused(2, ["models:FOLDER/MACHINE"], "--generate", "lu:3", "--devices", "cpu:2,models:")
    for option, value, words in (("--noise", "-1", "from 0 to 10"), ("--ccr", "x", "from 0 to 1000"),
                                 ("--seed", "-1", "at least 0"), ("--runs", "0", "from 1 to 10000"),
                                 ("--deadline", "0", "from 1e-09 to 1000000000"),
                                 ("--learn-from", "0", "a number of runs from 1 to 10000")):
        refused(2, [option, words, f"'{value}'"], "--generate", "lu:3", option, value)
    refused(1, ["--learn-from", "no-such-file"], "--generate", "lu:3", "--learn-from", "no-such-file")
    models = folder / "codelets/45"
    models.mkdir(parents=True)
    (models / "chol_model_gemm.here").write_text(
        "1\n0\n0\n1\n1\n1\n24c84a50 11059200 1.7e+09 8.9e+04 9.6e+02 1 1 232\n", encoding="utf-8")
    refused(1, ["'getrf' has no variant for cpu"], "--generate", "lu:3", "--devices",
            f"cpu:2,models:{folder}/here")


with tempfile.TemporaryDirectory() as name:
    check_results(Path(name))
    check_odd_names(Path(name))
    check_refusals(Path(name))
check_little_memory()
