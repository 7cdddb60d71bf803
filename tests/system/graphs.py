"""aiosctl graph: graphs from files, with deadlines that are kept or refused, and their listing;
partitions of one, templates with an input for each, and what they keep."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
import pictures  # noqa: E402
import wfformat  # noqa: E402
from instance import Instance, expect, run_test, stat_fields, wait_until  # noqa: E402
from jobs import kill_contexts  # noqa: E402
from schema import check  # noqa: E402

SCHEMAS = TESTS.parent / "abi/schema"
PICTURES = TESTS.parent / "abi/examples/pictures.json"
PATIENCE_S = 60
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
    # So long that what it takes to ask is nothing against the deadline.
    length = max(200, int(32 / well_s))
    late = careful(length, module)
    cheap = careful(length, module)
    for task in cheap["tasks"]:
        task["codelet"] = "quick"
    predicted_s = graphs.run(cheap, "--deadline", "10min")["asked"]["predicted_p95_s"]
    # Far too late one way, far in time the other, also when whatever is predicted is too long.
    deadline = f"{8 * predicted_s:.3f}s"
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


def check_gangs(graphs, module):
    """Its tasks start together, when each can have a slot."""
    pair = careful(2, module)
    pair["buffers"]["y"] = {"bytes": NUMBERS}
    pair["tasks"][1]["buffers"] = [["y", "read_write"]]
    devices = json.loads(graphs.instance.ctl("devices", "--json"))["devices"]
    cpu = next(device for device in devices if device["backend"] == "cpu")
    threads = cpu["topology"]["threads"]
    for task in pair["tasks"]:
        task.update(device=cpu["index"], gang="both")
    if threads >= 2:
        ran = graphs.run(pair)
        first, second = ran["tasks"]
        expect(ran["failed"] == 0 and first["began_s"] < second["began_s"] + second["run_s"]
               and second["began_s"] < first["began_s"] + first["run_s"], f"not together: {ran}")
    many = careful(threads + 1, module, device=cpu["index"], gang="all")
    for number, task in enumerate(many["tasks"]):
        task["buffers"] = [[f"x{number}", "read_write"]]
        many["buffers"][f"x{number}"] = {"bytes": 4096}
    graphs.refused(many, "can never start", f"{threads + 1} members", f"{threads} slots")
    if threads >= 2:
        # One that waits for another of it: they use the same buffer.
        told = json.loads(graphs.refused(careful(2, module, gang="both"),
                                         options=["--json"]))
        expect("can never start" in told["tasks"][0]["why"], f"a gang that waits for itself: {told}")
    graphs.refused(careful(1, module, gang="alone"), "2 to 256 members")


def check_listing(graphs):
    listed = checked("graphs", graphs.instance.ctl("graph", "list", "--json"))
    states = [graph["state"] for graph in listed]
    expect(states == ["done", "refused", "refused", "done", "done"], f"graphs: {states}")
    expect(listed[0]["actual_s"] > 0 and listed[1]["actual_s"] is None, f"graphs: {listed[:2]}")
    expect("too_late" in graphs.instance.ctl("graph", "list"), "the listing has no refusal")


def check_passed_deadline(graphs):
    """One that has passed when the scheduler hears of it was too early, and no wrong argument."""
    soon = checked("graph-run", graphs.refused(chain(1), options=["--deadline", "1us", "--json"]))
    expect(soon["error"]["code"] == "too_late", f"refused: {soon['error']}")


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
    wfformat.check(json.loads(record.read_text(encoding="utf-8")))
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
    # Its devices are by default those of the record, with what it took to be ready there.
    machines = json.loads(record.read_text(encoding="utf-8"))["workflow"]["execution"]["machines"]
    opening_s = max(machine["aios"]["openingInSeconds"] for machine in machines)
    expect(opening_s > 0, f"no context was opened: {machines}")
    found = checked("simulate", graphs.instance.ctl("simulate", "--graph", record, "--json"))
    named = [device.split(":")[0] for device in found["devices"].split(",")]
    expect(named == [machine["nodeName"] for machine in machines], f"devices: {found}, {machines}")
    expect(found["makespan_s"] > opening_s, f"simulated without an opening: {found}, {machines}")
    # A graph that names none is simulated on those that are here.
    other = json.loads(record.read_text(encoding="utf-8"))
    del other["runtimeSystem"]
    record.write_text(json.dumps(other), encoding="utf-8")
    here = json.loads(graphs.instance.ctl("devices", "--json"))["devices"]
    found = checked("simulate", graphs.instance.ctl("simulate", "--graph", record, "--json"))
    expect(found["recorded_makespan_s"] is None
           and len(found["devices"].split(",")) == len(here), f"devices: {found}, {here}")
    parts = [part for job in checked("bottlenecks", graphs.instance.ctl("bottlenecks", "--json"))
             for part in job["parts"]]
    expect(any(part["opening_ns"] > 0 for part in parts), f"nothing waited for a context: {parts}")


def check_long_record(graphs):
    """Of more tasks than the scheduler remembers placements of: taken as they come, and what is not is
    said."""
    count, remembered = 9000, 8192
    long = chain(1)
    # So large that they are not over before a run that is slow to look at them does.
    numbers = 262144
    task = {**long["tasks"][0], "arguments": [{"u32": numbers}, {"f32": 2}], "grid": [numbers // 256]}
    long["buffers"] = {f"{name}{i}": {"bytes": 4 * numbers} for i in range(4) for name in "xy"}
    long["tasks"] = [{**task, "name": f"a task {i}",
                      "buffers": [[f"x{i % 4}", "read"], [f"y{i % 4}", "read_write"]]}
                     for i in range(count)]
    record = graphs.instance.work / "long.json"
    done = graphs.instance.try_ctl("graph", "run", graphs.file(long), "--record", record)
    expect(done.returncode == 0, done.stderr)
    written = json.loads(record.read_text(encoding="utf-8"))
    wfformat.check(written)
    execution = written["workflow"]["execution"]
    placed = sum("machines" in task for task in execution["tasks"])
    missing = execution["aios"]["unplacedTasks"]
    expect(placed + missing == count, f"{placed} tasks have places, and {missing} are said to have none")
    expect(placed > remembered, f"only {placed} tasks have places")
    said = f"of {missing} tasks the scheduler had forgotten where they ran"
    expect((said in done.stderr) == (missing > 0), f"{missing} missing: {done.stderr}")


def check_failure(graphs):
    """The last task has failed: explain says so at once, and why, and where."""
    last = json.loads(graphs.instance.ctl("tasks", "--json"))[-1]
    expect(last["state"] == "failed", f"the last task: {last}")
    told = checked("explain", graphs.instance.ctl("explain", last["number"], "--json"))
    expect(told["state"] == "failed" and "no_such" in told["error"]
           and told["device"] == last["device"], f"explained: {told}")
    said = graphs.instance.ctl("explain", last["number"]).splitlines()
    expect(f"on {last['device']} failed" in said[0] and "no_such" in said[0]
           and "has not ended" not in "".join(said), f"explained: {said}")


def check_files(graphs):
    plain = graphs.run(chain(2))
    expect(plain["asked"] is None and len(plain["tasks"]) == 2, f"without a deadline: {plain}")
    branched = chain(3)
    branched["tasks"][2]["after"] = ["step0"]
    expect(graphs.run(branched)["failed"] == 0, "a graph with an edge failed")
    failing = chain(1)
    failing["codelets"]["axpy"]["function"] = "no_such"
    graphs.refused(failing, options=["--json"])
    check_failure(graphs)
    circle = chain(2)
    circle["tasks"][0]["after"] = ["step1"]
    graphs.refused(circle, "circle: 'step0' before 'step1' before 'step0'")
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
    graphs.refused("{", "is no JSON", "line 1")
    none = graphs.instance.try_ctl("graph", "run", graphs.instance.work / "none.json")
    expect(none.returncode == FAILED and "none.json" in none.stderr, none.stderr)


def two_chains(folder):
    """They share what they only read, so they are two partitions: left is the numbers, right three times
    these."""
    numbers = [float(i % 97) for i in range(5000)]
    (folder / "numbers").write_bytes(struct.pack("5000f", *numbers))
    count, grid = {"u32": 5000}, [20]
    add, axpy = ({"codelet": name, "grid": grid, "arguments": arguments}
                 for name, arguments in (("add", [count]), ("axpy", [count, {"f32": 3}])))
    graph = {"codelets": {"add": {"module": "vector.so", "function": "vector_add"},
                          "axpy": {"module": "vector.so", "function": "axpy"}},
             "buffers": {"a": {"load": "numbers"}, "zeros": {"bytes": 20000},
                         "left": {"bytes": [5000, 4], "keep": True}, "middle": {"bytes": 20000},
                         "right": {"bytes": 20000, "keep": True}},
             "tasks": [{"name": name, **kind, "buffers": uses} for name, kind, uses in (
                 ("to the left", add, [["a", "read"], ["zeros", "read"], ["left", "write"]]),
                 ("to the middle", add, [["a", "read"], ["zeros", "read"], ["middle", "write"]]),
                 ("to the right", axpy, [["middle", "read"], ["right", "read_write"]]))]}
    return graph, {"left": numbers, "right": [3 * x for x in numbers]}


def check_partitions(graphs):
    work = graphs.instance.work
    graph, kept = two_chains(work)
    for options in ([], ["--memory-mb", 1]):
        output = work / f"kept{len(options)}"
        done = graphs.run(graph, "--output", output, *options)
        expect([one["tasks"] for one in done["partitions"]] == [1, 2], f"{done['partitions']}")
        expect([one["outputs"] for one in done["partitions"]] == [["left"], ["right"]], f"{done}")
        expect(all(sum(one["devices"].values()) == one["tasks"] and one["attempts"] == 1
                   for one in done["partitions"]), f"devices: {done['partitions']}")
        expect(sorted(path.name for path in output.iterdir()) ==
               ["_SUCCESS", "left", "manifest.json", "right"], f"{output}")
        for name, numbers in kept.items():
            expect((output / name).read_bytes() == struct.pack("5000f", *numbers), f"{name} differs")
    manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
    expect([part["name"] for part in manifest["parts"]] == ["left", "right"], f"{manifest}")
    again = graphs.run(graph, "--output", work / "again")
    expect(all(one["predicted_s"] > 0 and one["unpredicted_tasks"] == 0
               for one in again["partitions"]), f"nothing was predicted: {again['partitions']}")
    said = graphs.instance.ctl("graph", "run", graphs.file(graph), "--output", work / "said")
    expect("2 partitions" in said and "in 2 files" in said, said)
    expect("one partition" in graphs.instance.ctl("graph", "run", graphs.file(chain(2))), "not told")
    graphs.refused(graph, "--output")
    graphs.refused(graph, "not empty", options=["--output", output])
    graphs.refused(graph, "is no template", options=["--output", work / "o", "--input", output])
    wide = chain(1)
    wide["buffers"]["y"]["keep"] = True
    graphs.refused(wide, "its buffers need 8.0 MiB", "larger --memory-mb", "nothing was written",
                   options=["--output", work / "o", "--memory-mb", 1])
    wide["codelets"]["axpy"]["function"] = "no_such"
    text = graphs.refused(wide, "no_such", options=["--output", work / "o", "--json"])
    expect(checked("graph-run", text)["error"]["text"], text)
    expect(not (work / "o").exists(), "a run that failed leaves its folder")
    missing = json.loads(json.dumps(graph))
    missing["codelets"]["add"]["module"] = "./none.so"
    text = graphs.refused(missing, "none.so", options=["--output", work / "o", "--json"])
    expect(checked("graph-run", text)["error"]["code"] == "not_found", text)
    for options, words in ((["--deadline", "2s"], "--deadline is of the local engine"),
                           (["--record", "x"], "--record is of the local engine"),
                           ([], "at the same path on every host")):
        graphs.refused(chain(1), words, code=USAGE,
                       options=["--engine", "spark", "--master", "x", *options])
    graphs.refused(chain(1), "needs --master", options=["--engine", "spark"], code=USAGE)


def write_pictures(folder, count, width, height):
    folder.mkdir()
    source = random.Random(7)
    for number in range(count):
        rows = [source.randbytes(width) for _ in range(height)]
        (folder / f"{number:03}.png").write_bytes(
            pictures.png(width, height, pictures.GREY, 8, rows))


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def check_template(graphs):
    """Each picture's counts are those of image-histogram, whatever dies meanwhile."""
    work, instance = graphs.instance.work, graphs.instance
    write_pictures(work / "pictures", 12, 900, 700)
    instance.ctl("mapreduce", "run", "image-histogram", "--input", work / "pictures", "--output",
                 work / "reference")
    lines = (work / "reference/part-00000").read_text(encoding="utf-8").splitlines()
    run = ["graph", "run", PICTURES, "--input", work / "pictures", "--json", "--output"]
    done = checked("graph-run", instance.ctl(*run, work / "counts"))
    expect(len(done["partitions"]) == len(lines) == 12 and len(done["tasks"]) == 60, f"{done}")
    for number, (one, line) in enumerate(zip(done["partitions"], lines)):
        expect(one["outputs"] == [f"part-{number:05}.{kind}-counts" for kind in ("edge", "grey")],
               f"outputs: {one}")
        edges, grey = (",".join(map(str, struct.unpack("256I", (work / "counts" / name).read_bytes())))
                       for name in one["outputs"])
        expect([one["input"], "900", "700", grey, edges] == line.split("\t"), f"{one['input']} differs")
    killed = instance.start(*run, work / "killed")
    # A task whose context ends 8 times fails, and nothing keeps all of them from being its own.
    kills = kill_contexts(instance, killed, 7, 0.03)
    out, err = killed.communicate(timeout=PATIENCE_S)
    expect(killed.returncode == 0, f"with killed contexts: {err} {out[-2000:]}")
    expect(files_of(work / "killed") == files_of(work / "counts"), "other counts when contexts die")
    attempts = sum(one["attempts"] for one in checked("graph-run", out)["partitions"])
    print(f"{kills} contexts killed, {attempts} attempts at 12 pictures", flush=True)
    lost = instance.start(*run, work / "lost")
    wait_until(instance.contexts, PATIENCE_S, "a context of the run")
    instance.ctl("crash", "scheduler", "--how", "kill")
    out, err = lost.communicate(timeout=PATIENCE_S)
    expect(lost.returncode == 0 and files_of(work / "lost") == files_of(work / "counts"),
           f"when the scheduler dies: {lost.returncode} {err} {out[-2000:]}")
    small = instance.ctl("graph", "run", PICTURES, "--input", work / "pictures", "--memory-mb", 4,
                         "--output", work / "small")
    expect("12 partitions" in small and files_of(work / "small") == files_of(work / "counts"), small)


SLOW_ADD = """
#include <aios/codelet.h>
static int32_t slow_add(const aios_task* task) {
  unsigned* numbers = task->buffers[0].data;
  ++numbers[0];
  for (volatile unsigned i = 0; i < numbers[1]; ++i) { }
  return 0;
}
static const aios_codelet codelets[] = {{"slow_add", slow_add}};
AIOS_EXPORT const aios_module_table aios_module = {AIOS_CODELET_ABI, 1, codelets};
"""


def check_half_run(graphs):
    """What may have half run, and must not run again over the same buffers, begins anew."""
    work, instance = graphs.instance.work, graphs.instance
    (work / "slow.c").write_text(SLOW_ADD, encoding="utf-8")
    subprocess.run(["cc", "-std=c11", "-O1", "-fPIC", "-shared", "-I", TESTS.parent / "abi/include",
                    work / "slow.c", "-o", work / "slow.so"], check=True)
    (work / "begin").write_bytes(struct.pack("II", 5, 1 << 30))
    file = graphs.file({"codelets": {"add": {"module": "slow.so", "function": "slow_add"}},
                        "buffers": {"sum": {"load": "begin", "keep": True}},
                        "tasks": [{"name": "add", "codelet": "add", "idempotent": False,
                                   "buffers": [["sum", "read_write"]]}]})
    run = instance.start("graph", "run", file, "--json", "--output", work / "anew")

    def running():
        return [task for task in json.loads(instance.ctl("tasks", "--json"))
                if task["codelet"] == "slow_add" and task["state"] == "running"]

    def used_s():
        """The processor time of the context that had the most."""
        found = [stat_fields(context["pid"]) for context in instance.contexts()]
        return max((int(one[11]) + int(one[12]) for one in found if one),
                   default=0) / os.sysconf("SC_CLK_TCK")

    # Where it is told to run it may not have begun yet.
    wait_until(running, PATIENCE_S, "the task runs")
    before_s = used_s()
    wait_until(lambda: used_s() > before_s + 0.1, PATIENCE_S, "the task has begun")
    for context in instance.contexts():
        os.kill(context["pid"], signal.SIGKILL)
    out, err = run.communicate(timeout=PATIENCE_S)
    expect(run.returncode == 0, f"half run: {err}")
    attempts = checked("graph-run", out)["partitions"][0]["attempts"]
    expect(attempts == 2, f"{attempts} attempts at what was killed once")
    expect((work / "anew/sum").read_bytes() == struct.pack("II", 6, 1 << 30), "added twice, or never")
    (work / "begin").write_bytes(struct.pack("II", 5, 9))
    instance.ctl("graph", "run", file, "--output", work / "whole")
    expect((work / "whole/sum").read_bytes() == struct.pack("II", 6, 9), "another sum")


def check_bad_inputs(graphs):
    work = graphs.instance.work
    template = json.loads(PICTURES.read_text(encoding="utf-8"))
    write_pictures(work / "few", 3, 40, 30)
    (work / "few/001.png").write_bytes((work / "few/001.png").read_bytes()[:-40])
    output = ["--output", work / "bad"]
    graphs.refused(template, "001.png: ", "ends in the middle of the image", "nothing was written",
                   options=["--input", work / "few", *output])
    (work / "few/001.png").write_bytes(b"no picture")
    graphs.refused(template, "001.png: ", "neither a JPEG nor a PNG",
                   options=["--input", work / "few", *output])
    (work / "few/001.png").write_bytes(b"")
    graphs.refused(template, "001.png: the file is empty", options=["--input", work / "few", *output])
    (work / "none").mkdir()
    graphs.refused(template, "no file in what --input names", options=["--input", work / "none", *output])
    graphs.refused(template, "nowhere", options=["--input", work / "nowhere", *output])
    graphs.refused(template, "name files or folders with --input", options=output)
    graphs.refused(template, "can have no deadline",
                   options=["--input", work / "few", "--deadline", "9s", *output])
    expect(not (work / "bad").exists(), "a run that failed leaves its folder")


def check_skipped_inputs(graphs):
    """Bad pictures among good ones: skipped up to the limit and named; the others are as without them."""
    work = graphs.instance.work
    template = json.loads(PICTURES.read_text(encoding="utf-8"))
    write_pictures(work / "good", 4, 40, 30)
    write_pictures(work / "mixed", 4, 40, 30)
    whole = (work / "good/000.png").read_bytes()
    bad = {"000a.png": (whole[:-40], "corrupt", "decode: "), "001a.png": (b"no picture", "invalid_argument", ""),
           "002a.png": (b"", "corrupt", "the file is empty")}
    for name, (data, _, _) in bad.items():
        (work / "mixed" / name).write_bytes(data)
    inputs = ["--input", work / "mixed"]
    for limit in ("--skip-bad-records", "--skip-bad-records=3"):
        output = work / f"skipped{limit[-2:]}"
        done = graphs.run(template, *inputs, "--output", output, limit)
        expect(done["error"] is None and done["skipped"] == 3, f"{limit}: {done['error']}, {done['skipped']}")
        skipped = {Path(one["input"]).name: one for one in done["partitions"] if one["skipped"]}
        expect(sorted(skipped) == sorted(bad), f"skipped: {sorted(skipped)}")
        for name, (_, code, words) in bad.items():
            expect(skipped[name]["error"]["code"] == code and words in skipped[name]["error"]["text"]
                   and skipped[name]["outputs"] == [], f"{name}: {skipped[name]}")
        manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
        expect(manifest["skipped"] == 3 and len(manifest["parts"]) == 8, f"{manifest['parts']}")
        kept = [one["outputs"] for one in done["partitions"] if not one["skipped"]]
        graphs.run(template, "--input", work / "good", "--output", work / f"alone{limit[-2:]}")
        alone = files_of(work / f"alone{limit[-2:]}")
        found = files_of(output)
        expect([[found[name] for name in names] for names in kept] ==
               [[alone[f"part-{i:05}.{kind}-counts"] for kind in ("edge", "grey")] for i in range(4)],
               "the good pictures' counts are others than without the bad ones")
    graphs.refused(template, "one bad input more than the 2 that may be skipped", "nothing was written",
                   options=[*inputs, "--output", work / "over", "--skip-bad-records=2"])
    expect(not (work / "over").exists(), "a run with too many bad inputs leaves its folder")
    record = work / "skipped-record.json"
    said = graphs.instance.ctl("graph", "run", graphs.file(template), *inputs, "--output", work / "told",
                               "--skip-bad-records", "--record", record)
    expect("3 skipped for their inputs" in said and "skipped: corrupt" in said, said)
    written = json.loads(record.read_text(encoding="utf-8"))
    wfformat.check(written)
    tasks = written["workflow"]["specification"]["tasks"]
    expect(len(tasks) == 4 * len(template["tasks"]), f"{len(tasks)} tasks are recorded")
    graphs.refused(chain(1), "is no template", options=["--skip-bad-records"])


def check_nothing_good_is_skipped(graphs):
    """What is wrong with the run or the template is no file's fault, whatever may be skipped."""
    work = graphs.instance.work
    template = json.loads(PICTURES.read_text(encoding="utf-8"))
    write_pictures(work / "good and large", 2, 40, 30)
    write_pictures(work / "only large", 1, 1000, 700)
    (work / "good and large/zz.png").write_bytes((work / "only large/000.png").read_bytes())
    options = ["--input", work / "good and large", "--output", work / "unskipped", "--skip-bad-records"]
    graphs.refused(template, "zz.png: ", "its buffers need", "give it a larger --memory-mb",
                   options=[*options, "--memory-mb", 1])
    expect(not (work / "unskipped").exists(), "a run that failed leaves its folder")


def check_odd_amounts(graphs):
    """An amount that makes no sense of one file is that file's: named, or skipped."""
    work = graphs.instance.work
    template = json.loads(PICTURES.read_text(encoding="utf-8"))
    # Each block is done 8,192 times; for 40 x 30 points these are few enough, for 1000 x 700 not.
    template["tasks"][1]["grid"].append(8192)
    options = ["--input", work / "good and large", "--output", work / "odd"]
    words = ("task 'grey'", "grid", "is 2735 by 8192 by 1, over 2^24 blocks in all")
    graphs.refused(template, "zz.png: ", *words, options=options)
    expect(not (work / "odd").exists(), "a run that failed leaves its folder")
    done = graphs.run(template, *options, "--skip-bad-records")
    expect(done["error"] is None and done["skipped"] == 1, f"{done['error']}, {done['skipped']}")
    odd = [one for one in done["partitions"] if one["input"].endswith("zz.png")][0]
    expect(odd["skipped"] and all(word in odd["error"]["text"] for word in words), f"{odd}")
    said = graphs.instance.try_ctl("graph", "run", graphs.file(template), "--input", work / "only large",
                                   "--output", work / "none so").stdout
    expect("0 failed, none has run; one partition" in said, f"nothing ran, and it says: {said}")


def check_help(graphs):
    """What the help and the README show as examples are some."""
    shown = graphs.instance.ctl("graph", "run", "--help")
    example = shown[shown.index('{"codelets"'):shown.index("where a.bin")]
    (graphs.instance.work / "a.bin").write_bytes(bytes(4096))  # what it loads
    done = graphs.run(example, "--output", graphs.instance.work / "of the help")
    expect(done["failed"] == 0, f"the example of the help: {example}")
    for line in (TESTS.parent / "README.md").read_text(encoding="utf-8").splitlines():
        if (words := line.split("#")[0].split()[1:]) and words[:3] == ["aiosctl", "graph", "run"]:
            file = TESTS.parent / words[3]
            expect(file.is_file(), f"the README has a graph that is not there: {words}")
            if "--input" not in words:
                done = checked("graph-run", graphs.instance.ctl("graph", "run", file, "--json"))
                expect(done["failed"] == 0 and done["tasks"], f"the README's {file} fails: {done}")


def main():
    with Instance(sys.argv[1]) as instance:
        graphs = Graphs(instance)
        check_deadlines(graphs)
        check_listing(graphs)
        check_passed_deadline(graphs)
        check_cheaper(graphs, str(Path(sys.argv[2]) / "graph_work.so"))
        check_gangs(graphs, str(Path(sys.argv[2]) / "graph_work.so"))
        check_record(graphs)
        check_long_record(graphs)
        check_files(graphs)
        check_partitions(graphs)
        check_template(graphs)
        check_half_run(graphs)
        check_bad_inputs(graphs)
        check_skipped_inputs(graphs)
        check_nothing_good_is_skipped(graphs)
        check_odd_amounts(graphs)
        check_help(graphs)


if __name__ == "__main__":
    sys.exit(run_test(main))
