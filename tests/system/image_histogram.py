"""`image-histogram` counts what a reference counts of images whose pixels are known: PNG of every form,
JPEG, of any size and number, on any number of threads, with contexts killed; and what is no whole image is
told by name, or skipped."""

import random
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
import pictures  # noqa: E402
from instance import Instance, expect, run_test  # noqa: E402
from jobs import Jobs  # noqa: E402


def grey_of(image):
    return [[(77 * r + 150 * g + 29 * b + 128) // 256 for r, g, b in row] for row in image]


def sobel(grey):
    height, width = len(grey), len(grey[0])

    def at(r, c):
        return grey[min(max(r, 0), height - 1)][min(max(c, 0), width - 1)]

    edges = []
    for r in range(height):
        for c in range(width):
            across = sum(w * (at(r + d, c + 1) - at(r + d, c - 1)) for d, w in ((-1, 1), (0, 2), (1, 1)))
            down = sum(w * (at(r + 1, c + d) - at(r - 1, c + d)) for d, w in ((-1, 1), (0, 2), (1, 1)))
            edges.append(min(abs(across) + abs(down), 255))
    return edges


def counts(values):
    found = [0] * 256
    for value in values:
        found[value] += 1
    return found


def line_of(name, image):
    grey = grey_of(image)
    fields = [name, str(len(image[0])), str(len(image))]
    for found in (counts(x for row in grey for x in row), counts(sobel(grey))):
        fields.append(",".join(map(str, found)))
    return "\t".join(fields)


def total_of(lines):
    rows = [line.split("\t") for line in lines]
    sums = [[sum(int(row[field].split(",")[i]) for row in rows) for i in range(256)]
            for field in (3, 4)]
    pixels = sum(int(row[1]) * int(row[2]) for row in rows)
    return "\t".join([str(len(rows)), str(pixels)] + [",".join(map(str, s)) for s in sums]) + "\n"


def noise(width, height, seed):
    source = random.Random(seed)
    return [[tuple(source.randrange(256) for _ in range(3)) for _ in range(width)]
            for _ in range(height)]


def blocks_as_pixels(blocks):
    return [[block for block in row for _ in range(8)] for row in blocks for _ in range(8)]


def rgb_of(y, cb, cr):
    """JFIF's conversion."""
    exact = (y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128),
             y + 1.772 * (cb - 128))
    return tuple(min(max(round(x), 0), 255) for x in exact)


def forms():
    """Files by name, and what they show."""
    source, made = random.Random(2), {}

    def add(name, data, image):
        made[name] = (data, image)

    for width, height in ((1, 1), (1, 40), (40, 1), (16, 16), (17, 33), (64, 65)):
        image = noise(width, height, width)
        add(f"rgb-{width}x{height}.png", pictures.png_of(image), image)
    width, height = 31, 23
    values = [[source.randrange(256) for _ in range(width)] for _ in range(height)]
    shown = [[(v, v, v) for v in row] for row in values]
    add("grey-8.png", pictures.png(width, height, pictures.GREY, 8, [bytes(r) for r in values]), shown)
    add("grey-alpha.png", pictures.png(width, height, pictures.GREY_ALPHA, 8, [
        bytes(x for v in row for x in (v, 255 - v)) for row in values]), shown)
    add("grey-16.png", pictures.png(width, height, pictures.GREY, 16, [
        b"".join(struct.pack(">H", v * 257 + (100 if v < 255 else 0)) for v in row)
        for row in values]), shown)
    bits = [[v & 1 for v in row] for row in values]
    add("grey-1.png", pictures.png(width, height, pictures.GREY, 1, [
        int("".join(map(str, row)).ljust(32, "0"), 2).to_bytes(4, "big") for row in bits]),
        [[(255 * v,) * 3 for v in row] for row in bits])
    colours = [tuple(source.randrange(256) for _ in range(3)) for _ in range(256)]
    add("palette.png", pictures.png(width, height, pictures.PALETTE, 8, [bytes(r) for r in values],
                                    bytes(x for colour in colours for x in colour)),
        [[colours[v] for v in row] for row in values])
    image = noise(width, height, 5)
    add("rgb-alpha.png", pictures.png(width, height, pictures.RGB_ALPHA, 8, [
        bytes(x for p in row for x in (*p, 7)) for row in image]), image)
    blocks = [[source.randrange(256) for _ in range(5)] for _ in range(4)]
    add("grey.jpg", pictures.jpeg(blocks), blocks_as_pixels([[(v, v, v) for v in r] for r in blocks]))
    inks = [[(source.randrange(60, 200), source.randrange(100, 156), source.randrange(100, 156))
             for _ in range(6)] for _ in range(3)]
    add("colour.jpeg", pictures.jpeg(inks), blocks_as_pixels([[rgb_of(*v) for v in r] for r in inks]))
    return made


class Images(Jobs):
    def texts(self, inputs, *options):
        """What is in the two parts."""
        return self.as_texts(self.parts("image-histogram", inputs, *options))

    @staticmethod
    def as_texts(parts):
        expect(len(parts) == 2, f"{len(parts)} parts")
        return [part.decode() for part in parts]

    def refused(self, path, *words, options=()):
        self.fails(str(path), [str(path), *words], "image-histogram", [path], *options)


def killed(jobs, folder, expected, most, every_s):
    parts, _ = jobs.while_contexts_are_killed("image-histogram", [folder], most, every_s)
    expect(jobs.as_texts(parts) == expected, "another output when contexts are killed")


def as_the_reference(jobs):
    folder = jobs.instance.work / "images"
    folder.mkdir()
    expected = []
    made = forms()
    for name in sorted(made):
        data, image = made[name]
        (folder / name).write_bytes(data)
        expected.append(line_of(f"{folder}/{name}", image))
    found = jobs.texts([folder])
    lines = found[0].splitlines()
    expect(len(lines) == len(expected), f"{len(lines)} lines for {len(expected)} images")
    for line, right in zip(lines, expected):
        expect(line == right, f"other counts than of the reference:\n{line}\n{right}")
    expect(found[1] == total_of(expected), f"another total: {found[1]}")
    expect(jobs.report["records"] == len(expected), f"{jobs.report}")
    for options in (("--threads", 1), ("--threads", 9), ("--memory-mb", 8)):
        expect(jobs.texts([folder], *options) == found, f"{options}: another output")
    odd = jobs.instance.work / "a\tb\\c.png"
    image = noise(3, 3, 3)
    odd.write_bytes(pictures.png_of(image))
    name = str(odd).replace("\\", "\\\\").replace("\t", "\\t")
    expect(jobs.texts([odd, odd])[0] == 2 * (line_of(name, image) + "\n"), "an odd name, twice")
    print(f"{len(expected)} forms as the reference", flush=True)


def many(jobs):
    """More images than descriptors may be lent, while contexts are killed: each counted once."""
    folder = jobs.instance.work / "many"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number:04}.png").write_bytes(pictures.png_of(noise(24, 20, number)))
    expected = jobs.texts([folder])
    pixels = sum(map(int, expected[1].split("\t")[2].split(",")))
    expect(pixels == 400 * 24 * 20, f"{pixels} pixels")
    killed(jobs, folder, expected, 5, 0.1)


def large(jobs):
    """Contexts die while they count, and what was counted twice is counted anew."""
    folder = jobs.instance.work / "large"
    folder.mkdir()
    source = random.Random(6)
    made = [pictures.png(2000, 1500, pictures.GREY, 8, [source.randbytes(2000)] * 1500)
            for _ in range(2)]
    for number in range(30):
        (folder / f"{number:02}.png").write_bytes(made[number % 2])
    expected = jobs.texts([folder])
    expect(len(set(line.split("\t", 1)[1] for line in expected[0].splitlines())) == 2, "two kinds")
    # A task whose context ends 8 times fails, and nothing keeps all of them from being its own.
    for _ in range(3):
        killed(jobs, folder, expected, 7, 0.02)


def bad_images(jobs):
    work = jobs.instance.work
    image = noise(50, 50, 1)
    whole = {"png": pictures.png_of(image), "jpg": pictures.jpeg([[40, 200, 90]] * 3)}
    huge = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = (pictures.PNG_BEGIN + pictures.chunk(b"IHDR", huge) +
            pictures.chunk(b"IDAT", pictures.zlib.compress(bytes(1_000_000))) +
            pictures.chunk(b"IEND", b""))
    wide = whole["jpg"].replace(struct.pack(">HH", 24, 24), struct.pack(">HH", 65_000, 65_000))
    damaged = bytearray(whole["png"])
    damaged[len(damaged) // 2] ^= 0x55
    cases = {
        "cut.png": (whole["png"][:-700], "the file ends in the middle of the image"),
        "cut.jpg": (whole["jpg"][:-4], "the file ends in the middle of the image"),
        "no-end.jpg": (whole["jpg"][:-2], "the file ends in the middle of the image"),
        "bomb.png": (bomb, "the image has 100000 x 100000 pixels; at most"),
        "bomb.jpg": (wide, "the image has 65000 x 65000 pixels; at most"),
        "damaged.png": (bytes(damaged), ""),
        "text.png": (b"no picture at all", "neither a JPEG nor a PNG"),
        "empty.jpg": (b"", "the file is empty"),
    }
    folder = work / "bad"
    folder.mkdir()
    for name, (data, words) in cases.items():
        (folder / name).write_bytes(data)
        jobs.refused(folder / name, words)
    (folder / "good.png").write_bytes(whole["png"])
    large = work / "large.png"
    large.write_bytes(pictures.png(1000, 1000, pictures.GREY, 8, [bytes(1000)] * 1000))
    jobs.refused(large, "1000 x 1000 pixels and needs 13 MiB", "larger --memory-mb",
                 options=("--memory-mb", 8))
    jobs.refused(folder, "one bad image more than the 7", options=("--skip-bad-records=7",))
    found = jobs.texts([folder], "--skip-bad-records")
    expect(found[0] == line_of(f"{folder}/good.png", image) + "\n", "the good image among bad ones")
    skipped = [(one["file"], one["why"]) for one in jobs.report["skipped_records"]]
    whys = {"bomb.jpg": "too_large", "bomb.png": "too_large", "text.png": "invalid_argument"}
    expect(skipped == [(f"{folder}/{name}", whys.get(name, "corrupt")) for name in sorted(cases)],
           f"skipped {skipped}")
    nothing = work / "nothing"
    nothing.mkdir()
    expect(jobs.texts([nothing]) == ["", total_of([])], "no image at all")
    jobs.fails("an argument", ["takes no arguments"], ["image-histogram", "x=1"], [nothing])


def main():
    with Instance(sys.argv[1]) as instance:
        jobs = Images(instance)
        as_the_reference(jobs)
        bad_images(jobs)
        many(jobs)
        large(jobs)


if __name__ == "__main__":
    sys.exit(run_test(main))
