"""aiosctl graph: graphs from files, with deadlines that are kept or refused, and their listing."""

import json
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
from instance import Instance, expect, run_test  # noqa: E402
from schema import check  # noqa: E402

SCHEMAS = TESTS.parent / "abi/schema"
NUMBERS = 1 << 20
FAILED = 1
USAGE = 2


def checked(name, text):
    value = json.loads(text)
    check(value, json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")), name)
    return value


def chain(length):
    """Each task adds to what the one before it wrote."""
    task = {"codelet": "axpy", "grid": [NUMBERS // 256], "arguments": [{"u32": NUMBERS}, {"f32": 2}],
            "buffers": [["x", "read"], ["y", "read_write"]]}
    return {"codelets": {"axpy": {"module": "vector.so", "function": "axpy"}},
            "buffers": {name: {"bytes": 4 * NUMBERS} for name in "xy"},
            "tasks": [{"name": f"step{i}", **task} for i in range(length)]}


class Graphs:
    def __init__(self, instance):
        self.instance = instance
        self.count = 0

    def file(self, graph):
        self.count += 1
        path = self.instance.work / f"graph{self.count}.json"
        path.write_text(graph if isinstance(graph, str) else json.dumps(graph), encoding="utf-8")
        return path

    def run(self, graph, *options):
        return checked("graph-run", self.instance.ctl("graph", "run", self.file(graph), "--json",
                                                      *options))

    def refused(self, graph, *words, options=(), code=FAILED):
        """It fails, and says all of the words; returns its standard output."""
        done = self.instance.try_ctl("graph", "run", self.file(graph), *options)
        expect(done.returncode == code, f"{options} ended with {done.returncode}: {done.stderr}")
        for word in words:
            expect(word in done.stderr, f"no '{word}' in: {done.stderr}")
        return done.stdout


def check_deadlines(graphs):
    graphs.refused(chain(1), "passed", "before it was submitted", options=["--deadline=-1s"])
    graphs.refused(chain(1), "is no time from now", options=["--deadline", "soon"], code=USAGE)
    first = graphs.run(chain(20), "--deadline", "10min")
    expect(first["asked"]["promise"] == "unknown_costs" and first["asked"]["unknown_tasks"] == 20,
           f"nothing was known of it: {first['asked']}")
    expect(first["failed"] == 0 and first["in_time"], f"it failed: {first}")
    run_s = sorted(task["run_s"] for task in first["tasks"])[10]
    late = chain(min(int(40 / run_s) + 1, 30000))
    options = ["--deadline", "2s"]
    graphs.refused(late, "predicted to finish in", "its deadline is in", options=options)
    asked = checked("graph-run", graphs.refused(late, options=[*options, "--json"]))["asked"]
    expect(asked["verdict"] == "too_late" and asked["predicted_p95_s"] > asked["deadline_s"],
           f"refused in time: {asked}")
    kept = graphs.run(chain(3), "--deadline", "10min")
    expect(kept["asked"]["promise"] == "made", f"no promise of what is known: {kept['asked']}")
    said = graphs.instance.ctl("graph", "run", graphs.file(chain(2)), "--deadline", "600")
    expect("accepted: predicted to finish in" in said and "before its deadline" in said, said)


def careful(length, module, **more):
    """A chain that does well what could be done in a 64th of the time."""
    task = {"codelet": "careful", "buffers": [["x", "read_write"]]}
    return {"codelets": {"careful": {"module": module, "function": "careful", "cheaper": "quick"},
                         "quick": {"module": module, "function": "quick"}},
            "buffers": {"x": {"bytes": NUMBERS}},
            "tasks": [{"name": f"step{i}", **task, **more} for i in range(length)]}


def check_cheaper(graphs, module):
    """What is too late is told of its cheaper variants, and runs in them when it permits that."""
    known = careful(12, module)
    for number in range(6):
        known["tasks"][number]["codelet"] = "quick"
    ran = graphs.run(known)
    expect(ran["failed"] == 0, f"it failed: {ran}")
    well_s = sorted(task["run_s"] for task in ran["tasks"][6:])[3]
    cheap_s = sorted(task["run_s"] for task in ran["tasks"][:6])[3]
    # Far too late one way, far in time the other.
    length = 200
    deadline = f"{max(length * (well_s * cheap_s) ** 0.5, 1):.3f}s"
    length = max(length, int(8 / well_s))
    late = careful(length, module)
    options = ["--deadline", deadline]
    graphs.refused(late, "cheaper variants", "--allow-cheaper", options=options)
    asked = checked("graph-run", graphs.refused(late, options=[*options, "--json"]))["asked"]
    expect(asked["cheaper_tasks"] == length and
           asked["cheaper_p95_s"] <= asked["deadline_s"] < asked["predicted_p95_s"],
           f"nothing was offered: {asked}")
    allowed = graphs.run(late, *options, "--allow-cheaper")
    expect(allowed["asked"]["verdict"] == "accepted" and allowed["asked"]["cheaper_tasks"] == length
           and {task["codelet"] for task in allowed["tasks"]} == {"quick"}, f"{allowed['asked']}")
    # Not where the deadline leaves time.
    well = graphs.run(careful(3, module, may_be_cheaper=True), "--deadline", "10min")
    expect(well["asked"]["cheaper_tasks"] == 0 and well["tasks"][0]["codelet"] == "careful",
           f"needlessly cheap: {well}")
    wrong = careful(1, module)
    wrong["codelets"]["careful"]["cheaper"] = "none"
    graphs.refused(wrong, "names no other codelet")


def check_listing(graphs):
    listed = checked("graphs", graphs.instance.ctl("graph", "list", "--json"))
    states = [graph["state"] for graph in listed]
    expect(states == ["done", "refused", "refused", "done", "done"], f"graphs: {states}")
    expect(listed[0]["actual_s"] > 0 and listed[1]["actual_s"] is None, f"graphs: {listed[:2]}")
    expect("too_late" in graphs.instance.ctl("graph", "list"), "the listing has no refusal")


def check_record(graphs):
    """A run's record names what waited for what, and the simulator says how far off it is."""
    record = graphs.instance.work / "record.json"
    wide = chain(30)
    wide["buffers"]["z"] = {"bytes": 4 * NUMBERS}
    # Joins stand between tasks that wait for more than twelve others.
    wide["codelets"]["sum"] = {"module": "vector.so", "function": "reduce"}
    for number in range(20):
        wide["tasks"][number].update(codelet="sum", arguments=[{"u32": NUMBERS}],
                                     grid=[NUMBERS // 1024], buffers=[["z", "read"], [f"s{number}", "write"]])
        wide["buffers"][f"s{number}"] = {"bytes": NUMBERS // 256}
    wide["tasks"][20]["after"] = [f"step{i}" for i in range(20)]
    graphs.run(wide, "--record", record)
    written = json.loads(record.read_text(encoding="utf-8"))["workflow"]["specification"]["tasks"]
    expect(sorted(written[20]["parents"]) == sorted(f"step{i}" for i in range(20)),
           f"the record says {written[20]}")
    expect(written[21]["parents"] == ["step20"] and written[0]["parents"] == [], f"{written[21]}")
    found = checked("simulate", graphs.instance.ctl("simulate", "--graph", record, "--devices",
                                                    "cpu:2", "--json"))
    expect(found["tasks"] == 30 and found["recorded_makespan_s"] > 0, f"simulated: {found}")
    expect(found["error"] > -1 and found["error"] == found["makespan_s"]
           / found["recorded_makespan_s"] - 1, f"the error is another: {found}")
    said = graphs.instance.ctl("simulate", "--graph", record, "--devices", "cpu:2")
    expect("the simulation is" in said, said)
    refused = graphs.instance.try_ctl("graph", "run", graphs.file(chain(1)), "--record",
                                      "/nowhere/x")
    expect(refused.returncode == FAILED and "/nowhere/x" in refused.stderr, refused.stderr)


def check_files(graphs):
    plain = graphs.run(chain(2))
    expect(plain["asked"] is None and len(plain["tasks"]) == 2, f"without a deadline: {plain}")
    branched = chain(3)
    branched["tasks"][2]["after"] = ["step0"]
    expect(graphs.run(branched)["failed"] == 0, "a graph with an edge failed")
    failing = chain(1)
    failing["codelets"]["axpy"]["function"] = "no_such"
    graphs.refused(failing, options=["--json"])
    circle = chain(2)
    circle["tasks"][0]["after"] = ["step1"]
    graphs.refused(circle, "circle")
    for change, words in (
            (lambda g: g["tasks"][0].update(codelet="none"), "names no codelet"),
            (lambda g: g["tasks"][0].update(buffers=[["z", "read"]]), "names no buffer"),
            (lambda g: g["tasks"][0].update(buffers=[["x", "eat"]]), "has the mode 'eat'"),
            (lambda g: g["tasks"][0].update(grid=[0]), "grid"),
            (lambda g: g["tasks"][0].update(arguments=[{"u32": -1}]), "arguments"),
            (lambda g: g["tasks"][0].update(arguments=[{"u64": 1}] * 9), "more than 64 bytes"),
            (lambda g: g["tasks"][0].update(colour="red"), "means nothing"),
            (lambda g: g["tasks"].append(g["tasks"][0]), "is that of another task"),
            (lambda g: g["tasks"][0].update(after=["never"]), "names no task"),
            (lambda g: g.update(tasks=[]), "tasks is missing, empty or no list")):
        wrong = json.loads(json.dumps(chain(1)))
        change(wrong)
        graphs.refused(wrong, words)
    graphs.refused("{", "is no JSON")
    none = graphs.instance.try_ctl("graph", "run", graphs.instance.work / "none.json")
    expect(none.returncode == FAILED and "none.json" in none.stderr, none.stderr)


def main():
    with Instance(sys.argv[1]) as instance:
        graphs = Graphs(instance)
        check_deadlines(graphs)
        check_listing(graphs)
        check_cheaper(graphs, str(Path(sys.argv[2]) / "graph_work.so"))
        check_record(graphs)
        check_files(graphs)


if __name__ == "__main__":
    sys.exit(run_test(main))
