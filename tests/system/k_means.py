"""`k-means` finds the centres that a reference in double precision finds; the output is the same bytes
for any split, any thread count, packed input and contexts that are killed; every device computes the same
steps; and what is no input for it is told.

usage: k_means.py AIOSCTL LIBAIOS CODELETS CUDA_DOUBLE
"""

import gzip
import json
import os
import random
import signal
import struct
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "abi/python")]
AIOSCTL, LIBRARY, CODELETS, DOUBLE = map(os.path.abspath, sys.argv[1:5])
os.environ["AIOS_LIBRARY"] = LIBRARY
import aios  # noqa: E402
from instance import Instance, expect, run_test, wait_until  # noqa: E402
from jobs import PATIENCE_S, Jobs, parts_of  # noqa: E402

MANIFEST = """
[server.cpu]
binary = "aios-cpu"
spawner = {{ binary = "aios-cpu-context", profile = "context", label = "spawner:context" }}

[server.gpu]
binary = "aios-gpu"
arguments = ["--environment", "AIOS_CUDA_LIBRARY={double}"]
spawner = {{ binary = "aios-gpu-context", profile = "jit", label = "spawner:context" }}

[server.scheduler]
binary = "aios-scheduler"
routes = ["cpu", "gpu"]
publish = true
"""
DIMENSIONS = 3
CENTRES = 5
MASK = 2**64 - 1


def single(value):
    """The nearest number of single precision."""
    return struct.unpack("f", struct.pack("f", value))[0]


def squared(a, b):
    return sum((x - y) * (x - y) for x, y in zip(a, b))


class SplitMix:
    def __init__(self, seed):
        self.state = seed

    def unit(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return ((z ^ (z >> 31)) >> 11) * 2.0**-53


def first_centres(points, k, seed):
    """As services/mapreduce/jobs/README.md says."""
    samples = min(len(points), max(4096, 16 * k))
    sample = [points[i * len(points) // samples] for i in range(samples)]
    source = SplitMix(seed)
    chosen = [sample[int(source.unit() * samples)]]
    weights = [float("inf")] * samples
    while len(chosen) < k:
        weights = [min(w, squared(p, chosen[-1])) for w, p in zip(weights, sample)]
        target, running, place = source.unit() * sum_in_order(weights), 0.0, 0
        for place, weight in enumerate(weights):
            running += weight
            if running > target:
                break
        chosen.append(sample[place])
    return chosen


def sum_in_order(numbers):
    """Python's own sum() may compensate for rounding."""
    total = 0.0
    for one in numbers:
        total += one
    return total


def reference(points, k, seed=0, limit=100):
    """Centres, labels and steps, all in double precision but the centres themselves."""
    centres = first_centres(points, k, seed)
    for step in range(1, limit + 1):
        labels = [min(range(k), key=lambda c: (squared(p, centres[c]), c)) for p in points]
        sums, counts = [[0.0] * len(points[0]) for _ in range(k)], [0] * k
        for label, point in zip(labels, points):
            counts[label] += 1
            for d, x in enumerate(point):
                sums[label][d] += x
        moved = [tuple(single(x / n) for x in row) if n else old
                 for row, n, old in zip(sums, counts, centres)]
        if max(squared(a, b) for a, b in zip(moved, centres)) < 1e-9:
            return centres, labels, step
        centres = moved
    return centres, labels, limit


def blobs(count, seed=1, apart=20.0):
    source = random.Random(seed)
    middles = [[source.uniform(-1, 1) * apart for _ in range(DIMENSIONS)] for _ in range(CENTRES)]
    return [tuple(single(round(source.gauss(m, 1), 3)) for m in source.choice(middles))
            for _ in range(count)]


def text_of(points, separator=","):
    return "".join(separator.join(f"{x:.3f}" for x in p) + "\n" for p in points).encode()


class KMeans(Jobs):
    def points(self, inputs, arguments, *options):
        """The two parts: the centres, and the centre of each point."""
        parts = self.parts(["k-means", *arguments], inputs, *options)
        expect(len(parts) == 2, f"{len(parts)} parts")
        return parts

    def refused(self, what, inputs, arguments, *words, options=(), code=1):
        self.fails(what, words, ["k-means", *arguments], inputs, *options, code=code)


def parse(parts):
    centres, counts = [], []
    for number, line in enumerate(parts[0].decode().splitlines()):
        index, count, row = line.split("\t")
        expect(int(index) == number, f"centre {index} is line {number}")
        centres.append(tuple(float(x) for x in row.split(",")))
        counts.append(int(count))
    return centres, counts, [int(line) for line in parts[1].splitlines()]


def close(a, b, off=1e-4):
    return all(abs(x - y) <= off * max(1.0, abs(y)) for x, y in zip(a, b))


def as_the_reference(jobs):
    # More points than are sampled for the first centres, and more than a share and a chunk have.
    points = blobs(17_500)
    path = jobs.file("points.csv", text_of(points))
    for seed in (0, 3):
        centres, labels, steps = reference(points, CENTRES, seed)
        found, counts, found_labels = parse(jobs.points([path], [f"k={CENTRES}", f"seed={seed}"]))
        wrong = sum(a != b for a, b in zip(labels, found_labels))
        expect(len(found_labels) == len(points) and wrong == 0, f"seed {seed}: {wrong} other labels")
        expect(all(map(close, found, centres)), f"seed {seed}: centres {found}, not {centres}")
        expect(counts == [labels.count(c) for c in range(CENTRES)], f"seed {seed}: counts {counts}")
        expect(jobs.report["counters"] == {"points": len(points), "dimensions": DIMENSIONS,
                                           "iterations": steps, "converged": 1}, f"{jobs.report}")
        expect(jobs.report["notes"] == [] and jobs.report["records"] == len(points), "the report")
    print(f"as the reference, {jobs.report['seconds']:.2f} s", flush=True)
    return path, points


def is_a_fixpoint(jobs):
    """Where blobs overlap, rounding decides single points: every centre is the mean of its points, and
    no point has another centre that is nearer by more than rounding."""
    points = blobs(6000, seed=9, apart=0.7)
    centres, counts, labels = parse(jobs.points([jobs.file("mixed", text_of(points, " "))],
                                             ["k=7", "iterations=1000"]))
    expect(jobs.report["counters"]["converged"] == 1, "it does not converge")
    for number, centre in enumerate(centres):
        own = [p for p, label in zip(points, labels) if label == number]
        expect(len(own) == counts[number], f"centre {number} has {len(own)} points")
        expect(close(centre, [sum(x) / len(own) for x in zip(*own)]), f"{centre} is no mean")
    for point, label in zip(points, labels):
        least = min(squared(point, c) for c in centres)
        expect(squared(point, centres[label]) <= least * (1 + 1e-5) + 1e-6, f"{point} in {label}")


def always_the_same(jobs, path, points):
    arguments = ["k=17", "iterations=3"]
    once = jobs.points([path], arguments)
    note = jobs.report["notes"]
    expect(len(note) == 1 and "not converged after 3 iterations" in note[0], f"notes: {note}")
    expect(jobs.report["counters"]["iterations"] == 3, "the limit is not kept")
    data = text_of(points)
    cuts = [0, 1, 999, 1000, 70_000, len(data)]
    # Files end in the middle of nothing: each but the last ends with its line.
    cuts = [data.rfind(b"\n", 0, c) + 1 if c else 0 for c in cuts]
    folder = jobs.instance.work / "pieces"
    folder.mkdir()
    for number, (a, b) in enumerate(zip(cuts, cuts[1:])):
        (folder / f"{number}").write_bytes(data[a:b].replace(b"\n", b"\r\n") + b"\n \n")
    (folder / "5.gz").write_bytes(gzip.compress(b"\n"))
    packed = jobs.file("points.gz", gzip.compress(data.rstrip(b"\n")))
    jobs.instance.ctl("fs", "put", path, "points")
    for inputs, options in (([path], ("--threads", 1)), ([path], ("--threads", 7)), ([folder], ()),
                            ([packed], ("--memory-mb", 8)), (["aios:points"], ())):
        expect(jobs.points(inputs, arguments, *options) == once, f"{inputs} {options}: another output")
    text = jobs.instance.ctl(*jobs.command(["k-means", *arguments], [path]))
    expect("not converged after 3 iterations" in text and "in 2 parts" in text, text)
    again = jobs.points([path], ["k=17", "tolerance=1000"])
    expect(jobs.report["counters"]["iterations"] == 1 and again != once, "tolerance")


def killed_contexts(jobs):
    """The same output though contexts are killed all the time."""
    points = blobs(60_000, seed=4, apart=2.0)
    path = jobs.file("many", text_of(points))
    arguments = ["k=200", "iterations=120"]
    expected = jobs.points([path], arguments)
    parts, kills = jobs.while_contexts_are_killed(["k-means", *arguments], [path], 6, 0.15)
    expect(parts == expected, "another output when contexts are killed")
    expect(kills > 0, "nothing was killed")


def interrupted(jobs):
    path = jobs.file("long", text_of(blobs(60_000, seed=5, apart=0.1)))
    job = jobs.instance.start(*jobs.command(["k-means", "k=3000", "iterations=1000000"], [path]))
    wait_until(jobs.instance.contexts, PATIENCE_S, "a context of the job")
    job.send_signal(signal.SIGINT)
    err = job.communicate(timeout=PATIENCE_S)[1]
    expect(job.returncode == 1 and "cancelled" in err, f"interrupted: {err}")
    expect(not jobs.output.exists(), "an interrupted job leaves its folder")


def listed_and_cancelled(jobs):
    """As every job, with how far it is; and it goes on when the service that lists it dies."""
    instance = jobs.instance

    def listed(phase):
        return [job for job in json.loads(instance.ctl("mapreduce", "jobs", "--json"))
                if job["name"] == "k-means" and job["phase"] == phase and job["tasks"] > 0]

    path = jobs.file("listed", text_of(blobs(200_000, seed=7, apart=0.1)))
    running = instance.start(*jobs.command(["k-means", "k=3000", "iterations=1000000"], [path]))
    job = wait_until(lambda: listed("reduce"), PATIENCE_S, "the job is listed")[0]
    expect(job["records"] == 200_000 and job["input_bytes"] == path.stat().st_size and
           50 <= job["percent"] < 100 and job["reducers"] == 0, f"listed so: {job}")
    before = instance.pid_of("mapreduce")
    instance.ctl("crash", "mapreduce")
    wait_until(lambda: instance.pid_of("mapreduce") not in (0, before), PATIENCE_S, "the service is back")
    again = wait_until(lambda: listed("reduce"), PATIENCE_S, "it is listed again")[0]
    instance.ctl("mapreduce", "cancel", again["job"])
    err = running.communicate(timeout=PATIENCE_S)[1]
    expect(running.returncode == 1 and "cancelled" in err, f"cancelled by its number: {err}")
    expect(not jobs.output.exists(), "a cancelled job leaves its folder")
    wait_until(lambda: instance.ctl("mapreduce", "jobs", "--json").strip() == "[]", PATIENCE_S,
               "it is listed no more")


def lost_scheduler(jobs):
    """A job that loses its scheduler is done anew by its client, with the same output."""
    path = jobs.file("lost", text_of(blobs(60_000, seed=6, apart=0.1)))
    arguments = ["k=300", "iterations=60"]
    expected = jobs.points([path], arguments)
    job = jobs.instance.start(*jobs.command(["k-means", *arguments], [path]))
    wait_until(jobs.instance.contexts, PATIENCE_S, "a context of the job")
    jobs.instance.ctl("crash", "scheduler")
    err = job.communicate(timeout=PATIENCE_S)[1]
    expect(job.returncode == 0, f"without its scheduler: {err}")
    expect(parts_of(jobs.output) == expected, "another output when the scheduler dies")
    jobs.instance.wait_running()


def refusals(jobs):
    good = jobs.file("good", b"1,2\n3,4\n1,2\n")
    bad = {
        "NaN": (b"1,2\n\n3,nan\n", "at byte 7: 'nan' is not finite"),
        "infinity": (b"1,2\n-inf,3\n", "at byte 4: '-inf' is not finite"),
        "ragged": (b"1,2\n3,4\n5,6,7\n", "at byte 8: a point of 3 numbers, where the first one"),
        "short": (b"1,2\n3\n", "at byte 4: a point of 1 number, where"),
        "header": (b"x,y\n1,2\n", "at byte 0: 'x' is no number"),
        "missing": (b"1,2\n3,\n", "at byte 6: a number is missing"),
        "huge": (b"1,2\n3,1e30\n", "at byte 6: '1e30' is beyond 1e15"),
        "binary": (bytes(range(256)), "is no number"),
    }
    for what, (data, words) in bad.items():
        path = jobs.file(f"bad-{what}", data)
        jobs.refused(what, [path], ["k=1"], str(path), words)
    jobs.refused("ragged between files", [good, jobs.file("other", b"\n1,2,3\n")], ["k=1"],
                 "other, at byte 1: a point of 3 numbers, where the first one of the input has 2")
    jobs.refused("no points", [jobs.file("empty", b" \n\n")], ["k=1"], "there is no point")
    jobs.refused("k above the points", [good], ["k=4"], "k=4, but the input has only 3 points")
    jobs.refused("k above the different points", [good], ["k=3"], "only 2 different points")
    for arguments, words in ((["k=0"], "k=0 is no whole number from 1"), ([], "k is missing"),
                             (["7"], "'7' is not of the form"), (["k=1", "m=2"], "no argument 'm'"),
                             (["k=1", "tolerance=nan"], "tolerance=nan is no number")):
        jobs.refused(f"arguments {arguments}", [good], arguments, words, "the arguments are k=")
    jobs.refused("reducers", [good], ["k=1"], "writes two parts", options=("--reducers", 3))
    jobs.refused("skipping", [good], ["k=1"], "cannot be skipped", options=("--skip-bad-records",))
    for options in (("--then", "sort"), ("--input-format", "csv")):
        jobs.refused(f"{options}", [good], ["k=1"], options=options)
    jobs.refused("a field of text", [good], ["k=1"], "text has no fields", options=("--field", "1"), code=2)
    line = b"1.5 " * 4000 + b"\n"
    jobs.refused("memory", [jobs.file("wide", line * 1000)], ["k=3"], "larger --memory-mb",
                 options=("--memory-mb", 8))
    jobs.refused("no such file", [jobs.instance.work / "none"], ["k=1"], "none")


def every_device(instance):
    """The steps of k-means are the same bits wherever they run."""
    wait_until(lambda: any(d["backend"] == "cuda" for d in
                           json.loads(instance.ctl("devices", "--json"))["devices"]),
               PATIENCE_S, "the driver has found the double of a GPU")
    attached = aios.attach(str(instance.state / "aios.sock"), job_name="every-device")
    tenant = attached.tenant(PATIENCE_S)
    n, k, shares = 3000, 6, 3
    source = random.Random(8)
    numbers = [source.gauss(0, 3) for _ in range((n + k) * DIMENSIONS)]
    sizes = [n * DIMENSIONS * 4, k * DIMENSIONS * 4, n * 4, shares * k * DIMENSIONS * 4,
             shares * k * 4]
    region = attached.create_region(sum(sizes), "steps")
    buffers, at = [], 0
    for size in sizes:
        buffers.append(tenant.buffer(region, aios.Access.WRITE, at, size))
        at += size
    struct.pack_into(f"{len(numbers)}f", region.data, 0, *numbers)
    assign, add = (tenant.codelet(f"{CODELETS}/kmeans.so", name)
                   for name in ("kmeans_assign", "kmeans_sum"))
    read, write = aios.Mode.READ, aios.Mode.WRITE
    results, tag = {}, 0
    for device in tenant.devices():
        struct.pack_into(f"{(sum(sizes[2:])) // 4}I", region.data, sum(sizes[:2]),
                         *[77] * (sum(sizes[2:]) // 4))
        tasks = [aios.Task(tag + 1, assign, [(buffers[0], read), (buffers[1], read), (buffers[2], write)],
                           struct.pack("3I", n, DIMENSIONS, k), grid=(-(-n // 256), 1, 1),
                           device=device.index),
                 aios.Task(tag + 2, add, [(buffers[0], read), (buffers[2], read), (buffers[3], write),
                                          (buffers[4], write)],
                           struct.pack("4I", n, DIMENSIONS, k, 1024), grid=(shares, 1, 1),
                           device=device.index, after=[tag + 1])]
        tag += 2
        tenant.submit_many(tasks)
        left = 2
        while left:
            for done in tenant.completions(PATIENCE_S):
                expect(done.ok, f"task {done.tag} failed on {device.name}")
                left -= 1
        results[f"{device.index} {device.backend}"] = bytes(region.data[sum(sizes[:2]):sum(sizes)])
    expect(len(set(results.values())) == 1, f"devices differ: {list(results)}")
    print(f"the same bits on: {', '.join(results)}", flush=True)
    tenant.close()
    attached.close()


def main():
    with Instance(AIOSCTL) as instance:
        jobs = KMeans(instance)
        path, points = as_the_reference(jobs)
        is_a_fixpoint(jobs)
        always_the_same(jobs, path, points)
        refusals(jobs)
        killed_contexts(jobs)
        interrupted(jobs)
        listed_and_cancelled(jobs)
        lost_scheduler(jobs)
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "aios.toml"
        manifest.write_text(MANIFEST.format(double=DOUBLE))
        with Instance(AIOSCTL, manifest) as instance:
            every_device(instance)


if __name__ == "__main__":
    sys.exit(run_test(main))
