"""Inputs that are not plain text, on a node: cut where records begin, brought from storage, images. What is
made of them is what the single-machine engine makes."""

import gzip

import node_test
import pictures
from node_test import MIB, Case, built_in, map_and_reduce

import aios
from aios_cluster import images, job, objects, splits
from aios_cluster.node import Node
from aios_cluster.records import Records


class Inputs(Case):
    def cut(self, inputs, records):
        """The splits of a job, where its records begin."""
        plan = splits.align(splits.plan(inputs, 2),
                            lambda asked: [job.record_begins(records, *one) for one in asked])
        whole = splits.plan(inputs, 2)
        self.assertEqual(sum(split.size_bytes for split in plan.splits), whole.input_bytes)
        self.assertEqual([split.number for split in plan.splits],
                         [split.number for split in whole.splits])
        return plan

    def test_records_are_those_that_the_single_machine_engine_finds(self):
        rows = b"".join(b'%d,"a %d\n""b""",%s\r\n' % (i, i % 977, b"x" * (i % 9))
                        for i in range(130_000))
        huge = b'0,"' + b"long\n" * 400_000 + b'",y\n'  # covers a whole split
        lines = b"".join(b'{"t":"word%d and\\nmore"}\n' % (i % 977) for i in range(90_000))
        fixed = b"".join(b"%08d\n%03d" % (i * 7919 % 10**8, i % 977) for i in range(200_000))
        of_csv = [self.write("a.csv", rows), self.write("b.csv", b""),
                  self.write("c.csv", huge + rows[:rows.index(b"\r\n1,") + 2]), self.write("d.csv.gz", gzip.compress(rows))]
        for name, inputs, field, job_name in (
                ("csv", of_csv, "2", "wordcount"), ("csv", of_csv, "2", "sort"),
                ("jsonl", [self.write("e", lines)], "t", "wordcount"),
                ("fixed:12", [self.write("f", fixed)], "0:8", "sort")):
            with self.subTest(name, job=job_name):
                records = Records.named(name, field)
                plan = self.cut(inputs, records)
                self.assertGreater(len(plan.splits), 1)
                with Node(built_in(job_name), records=records) as node:
                    boundaries = node.sample(plan.sample, 3)
                with Node(built_in(job_name), records=records, boundaries=boundaries) as node:
                    made = map_and_reduce(node, plan, 3)
                self.assertEqual(made, self.local(job_name, inputs, 3, options=[
                    "--input-format", name, "--field", field]))

    def test_formats_that_there_are_not_are_refused(self):
        for name, field, words in (("csv:ab", None, "delimiter"), ("fixed:4", "2:3", "OFFSET"),
                                   ("text", "a", "no fields"), ("parquet", None, "no input format")):
            with self.subTest(name), self.assertRaisesRegex(aios.InvalidArgument, words):
                Records.named(name, field)

    def test_objects_are_brought_as_files_that_keep_their_names(self):
        for name, data in (("in/a", b"one two\n"), ("in/b/1.gz", gzip.compress(b"two\n")),
                           ("in/b/2", b"")):
            node_test.instance.ctl("fs", "put", self.write("put", data), name)
        plain = self.write("plain", b"three\n")
        inputs = ["aios:in/b/", plain, "aios:in/a"]
        folder = self.work / "objects"
        paths, known_as = objects.bring(inputs, str(folder))
        self.assertEqual([known_as.get(path, path) for path in paths],
                         ["aios:in/b/1.gz", "aios:in/b/2", plain, "aios:in/a"])
        plan = splits.plan(paths, 2, known_as=known_as)
        with Node(built_in("inverted-index"), names=plan.names) as node:
            self.assertEqual(map_and_reduce(node, plan, 2), self.local("inverted-index", inputs, 2))
        for name, words in (("aios:in/none", "no such object"), ("aios:none/", "no object below")):
            with self.assertRaisesRegex(aios.NotFound, f"{name}: .*{words}"):
                objects.bring([name], str(self.work / name.replace("/", "")))

    def test_images_are_counted_as_on_one_machine(self):
        made = [[[(x * 9 % 256, y * 7 % 256, n) for x in range(9 + n)] for y in range(8)]
                for n in range(5)]
        inputs = [self.write(f"{n}\t.png", pictures.png_of(image)) for n, image in enumerate(made)]
        inputs[2:2] = [self.write("bad", b"no picture"), self.write("empty", b""), inputs[0]]
        with self.assertRaisesRegex(aios.Error, "bad: .*neither|empty: the file is empty"):
            self.image_parts(inputs, 0)
        parts, skipped = self.image_parts(inputs, 2)
        self.assertEqual(parts, self.local("image-histogram", inputs, 1,
                                           options=["--skip-bad-records=2"]))
        self.assertEqual([inputs[number] for number in skipped], inputs[2:4])
        nothing = self.work / "nothing"
        nothing.mkdir()
        self.assertEqual(self.image_parts([nothing], 0)[0],
                         self.local("image-histogram", [nothing], 1))

    def image_parts(self, inputs, most):
        plan = splits.plan_whole(inputs, 1)
        blocks = {split.number: images.mapped(
            built_in("image-histogram"), [], split, memory_bytes=64 * MIB, task_limit_s=0.0,
            max_bad_records=most) for split in plan.splits}
        parts, skipped = [], []
        for number in range(images.PARTS):
            lines = bytearray()
            facts = images.reduced(number, {split: made[number] for split, made in blocks.items()},
                                   lines.extend)
            parts.append(bytes(lines))
            skipped += [(split, piece) for split, piece, _, _ in facts.skipped]
        first = [sum(len(split.pieces) for split in plan.splits[:split.number])
                 for split in plan.splits]
        return parts, [first[split] + piece for split, piece in skipped]
