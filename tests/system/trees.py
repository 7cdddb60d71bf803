"""Boosted trees, live: trained from what the scheduler has seen, promoted because they predict new
sizes better, heard, and kept over the death of everybody who has to do with them."""

import json
import random
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
from instance import Instance, expect, run_test, wait_until  # noqa: E402
from schema import check  # noqa: E402

SCHEMA = json.loads((TESTS.parent / "abi/schema/models-trees.json").read_text(encoding="utf-8"))
MAGIC = b"AIOSTREE"
# The trainer gets what nobody else wants, and others test on this machine.
TRAINED_S = 250
STORED_S = 60
UNIT = 64
SHORT_TURNS = 200_000
LONG_TURNS = 20_000_000


def turns(units):
    """Bands of sizes, now short and now long: no line over sizes is right about them."""
    return LONG_TURNS if units // 64 % 2 else SHORT_TURNS


class Bands:
    """Runs the codelet with sizes that it never had."""

    def __init__(self, instance, module):
        self.instance = instance
        self.module = module
        self.sizes = list(range(1, 512))
        random.Random(5).shuffle(self.sizes)
        self.ran = 0

    def run(self, count):
        sizes = [self.sizes.pop() for _ in range(count)]
        graph = {"codelets": {"spin": {"module": str(self.module), "function": "spin"}},
                 "buffers": {f"b{n}": {"bytes": n * UNIT} for n in sizes},
                 "tasks": [{"name": f"t{n}", "codelet": "spin", "arguments": [{"u64": turns(n)}],
                            "device": 0, "buffers": [[f"b{n}", "read"]]} for n in sizes]}
        path = self.instance.work / "bands.json"
        path.write_text(json.dumps(graph), encoding="utf-8")
        done = json.loads(self.instance.ctl("graph", "run", path, "--json"))
        expect(done["failed"] == 0, f"tasks failed: {done}")
        self.ran += count

    def levels(self, count):
        """Who spoke for each of the tasks that ran last, and how far off that was."""
        tasks = [t for t in json.loads(self.instance.ctl("tasks", "--json"))
                 if t["state"] == "done"][-count:]
        told = [json.loads(self.instance.ctl("explain", str(t["number"]), "--json")) for t in tasks]
        return [one["candidates"][0]["level"] for one in told]


def report(instance):
    value = json.loads(instance.ctl("models", "--trees", "--json"))
    check(value, SCHEMA, "models-trees")
    return value


def trained(instance, least):
    """The trees of times, once they were trained from so many runs."""
    for trees in report(instance)["trees"]:
        if trees["of"] == "time" and trees["trained"] + trees["held_out"] >= least:
            return trees
    return None


def stored(instance):
    return any(MAGIC in path.read_bytes() for path in (instance.state / "storage").rglob("*")
               if path.is_file())


def check_without_library(instance, bands):
    expect("libxgboost0" in report(instance)["trainer"], "it does not say how to get the library")
    bands.run(70)
    expect(set(bands.levels(5)) <= {"regression", "history", "hint", "none"}, "who speaks?")


def check_doctor(instance, available):
    told = json.loads(instance.ctl("doctor", "--json"))["libraries"]
    expect([lib["found"] for lib in told if lib["name"] == "xgboost"] == [available],
           f"the doctor says {told}, the trainer {available}")


def check_boosted(bands, when):
    """New sizes are predicted by trees, as long as these err less."""
    bands.run(4)
    levels = bands.levels(4)
    expect("boosted" in levels, f"{when}: new sizes are predicted by {levels}, "
                                f"the report says {report(bands.instance)}")


def main():
    with Instance(sys.argv[1]) as instance:
        bands = Bands(instance, sys.argv[2])
        first = report(instance)
        expect(first["trees"] == [] and first["trainings"] == 0, f"at first: {first}")
        wait_until(lambda: report(instance)["available"] or
                   "not answered" not in report(instance)["trainer"], TRAINED_S, "the trainer answers")
        available = report(instance)["available"]
        check_doctor(instance, available)
        if not available:
            print("XGBoost is not installed: trees are not trained")
            return check_without_library(instance, bands)

        bands.run(60)
        expect(report(instance)["trees"] == [], "trained from too few sizes")
        bands.run(100)
        trees = wait_until(lambda: trained(instance, 100), TRAINED_S, "trees are trained")
        expect(trees["verdict"] == "promoted" and trees["speaks"], f"not promoted: {trees}")
        expect(trees["trees_mdape"] < trees["told_mdape"], f"promoted although: {trees}")
        expect("promoted" in instance.ctl("models", "--trees") or
               "predict better" in instance.ctl("models", "--trees"), "the table says no reason")
        check_boosted(bands, "after the promotion")

        wait_until(lambda: stored(instance), STORED_S, "trees are stored")
        instance.ctl("crash", "trainer", "--how", "kill")
        check_boosted(bands, "without the trainer")
        instance.ctl("crash", "scheduler", "--how", "kill")
        wait_until(lambda: trained(instance, 100), STORED_S, "trees are restored")
        wait_until(lambda: trained(instance, 100)["speaks"], STORED_S, "restored trees speak")
        check_boosted(bands, "after the scheduler's death")

        instance.ctl("shutdown")
        instance.ctl("boot", "--detach")
        instance.kernel_pid = instance.status()["pid"]
        wait_until(lambda: trained(instance, 100) and trained(instance, 100)["speaks"], STORED_S,
                   "trees are restored after a boot")
        check_boosted(bands, "after the instance's end")


if __name__ == "__main__":
    sys.exit(run_test(main))
