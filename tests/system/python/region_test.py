"""Regions are buffers: memory views and NumPy arrays over them, without a copy."""

import gc
import weakref

import numpy

import aios
from common import ECHO_VERSION, SUM, WORD, Case, Thread, run_python

PAGE = 4096


class Regions(Case):
    def setUp(self):
        self.instance = self.attach()

    def test_a_view_and_an_array_are_the_same_memory(self):
        with self.instance.create_region(PAGE, "bytes") as region:
            self.assertGreaterEqual(region.size_bytes, PAGE)
            self.assertEqual(len(region), region.size_bytes)
            self.assertEqual(bytes(region.data), bytes(region.size_bytes))
            numbers = region.array("<u4", (2, 4), offset_bytes=16)
            numbers[1, 0] = 0x01020304
            self.assertEqual(region.data[32:36], b"\x04\x03\x02\x01")
            region.data[16:20] = b"\x01\x00\x00\x00"
            self.assertEqual(numbers[0, 0], 1)
            self.assertEqual(region.array().dtype, numpy.uint8)
            self.assertEqual(region.array("f8").shape, (region.size_bytes // 8,))
            self.assertEqual(region.array("f8", 3).shape, (3,))
            for shape in (numpy.int64(6), [2, numpy.uint8(3)], numpy.array([3, 2]), range(2, 4)):
                self.assertEqual(region.array("f8", shape, numpy.int32(8)).size, 6)

    def test_an_array_goes_to_others_by_dlpack_without_a_copy(self):
        with self.instance.create_region(PAGE) as region:
            other = numpy.from_dlpack(region.array("i8"))
            region.array("i8")[5] = 55
            self.assertEqual(other[5], 55)

    def test_an_array_outlives_its_region_and_its_instance(self):
        instance = aios.attach()
        region = instance.create_region(PAGE)
        array = region.array("i8")
        view = region.data[8:16]
        memory = weakref.ref(region._owned)
        region.close()
        instance.close()
        del region, instance
        array[1] = 7
        self.assertEqual(WORD.unpack(view), (7,))
        del array
        self.assertIsNotNone(memory())
        del view
        self.assertIsNone(memory())

    def test_a_closed_region_gives_its_memory_back(self):
        before = mappings()
        region = self.instance.create_region(PAGE)
        array = region.array()
        self.assertEqual(mappings(), before + 1)
        region.close()
        self.assertEqual(mappings(), before + 1)
        del array
        self.assertEqual(mappings(), before)
        region = self.instance.create_region(PAGE)
        del region
        self.assertEqual(mappings(), before)

    def test_what_does_not_fit_is_refused(self):
        with self.instance.create_region(PAGE) as region:
            self.assertEqual(region.array("f8", 0).shape, (0,))
            self.assertEqual(region.array("f8", (3, 0)).shape, (3, 0))
            for shape, offset in ((region.size_bytes, 0), (1, region.size_bytes), (-1, 0),
                                  ((2, -2), 0), (None, -1), (None, region.size_bytes + 1)):
                self.assertRaises(ValueError, region.array, "f8", shape, offset)
            self.assertRaises(ValueError, region.array, object, 1)
            self.assertRaises(ValueError, region.array, "V0")

    def test_a_size_of_nothing_or_of_no_number_is_refused(self):
        self.assertRaises(aios.InvalidArgument, self.instance.create_region, 0)
        self.assertRaises(aios.InvalidArgument, self.instance.create_region, -1)
        self.assertRaises(aios.InvalidArgument, self.instance.create_region, 2**64)
        self.assertRaises(TypeError, self.instance.create_region, "4096")
        self.assertRaises(TypeError, self.instance.create_region, 4096.0)
        self.assertRaises(TypeError, self.instance.create_region, PAGE, b"name")

    def test_more_memory_than_the_job_may_have_is_a_quota_error(self):
        small = self.attach(job_name="small", memory_bytes=1 << 20)
        self.assertRaises(aios.Quota, small.create_region, 1 << 24)
        small.create_region(1 << 16).close()

    def test_a_closed_region_says_so(self):
        region = self.instance.create_region(PAGE)
        region.close()
        region.close()
        self.assertTrue(region.closed)
        self.assertIn("closed", repr(region))
        for use in (lambda: region.data, lambda: region.size_bytes, lambda: region.array(),
                    lambda: region.writable, lambda: region.freeze(), lambda: region.keep("x"),
                    lambda: region.__enter__()):
            with self.assertRaisesRegex(aios.BadHandle, "Region is closed"):
                use()

    def test_threads_that_take_views_while_another_closes_get_memory_or_an_error(self):
        for _ in range(50):
            region = self.instance.create_region(PAGE)

            def look():
                try:
                    while True:
                        region.data[0] = 1
                except aios.BadHandle:
                    return True

            lookers = [Thread(look) for _ in range(2)]
            region.close()
            self.assertTrue(all(looker.result() for looker in lookers))

    def test_a_kept_region_is_found_by_another_program_with_no_more_than_its_access(self):
        with self.instance.create_region(PAGE) as region:
            region.data[:5] = b"hello"
            region.keep("python-kept", aios.Access.READ)
        self.addCleanup(lambda: self.attach().forget("python-kept"))
        found = run_python(
            "import aios, sys\n"
            "instance = aios.attach()\n"
            "with instance.open_region('python-kept') as region:\n"
            "    print(bytes(region.data[:5]).decode(), region.writable, region.data.readonly,\n"
            "          region.array().flags.writeable)\n"
            "    try: region.data[0] = 1\n"
            "    except TypeError: print('read-only')\n"
            "try: instance.open_region('python-kept', aios.Access.WRITE)\n"
            "except aios.Denied: print('denied')\n")
        self.assertEqual(found.stdout.split(), ["hello", "False", "True", "False", "read-only",
                                                "denied"], found.stderr)

    def test_a_read_only_array_cannot_be_made_writable(self):
        with self.instance.create_region(PAGE) as region:
            region.keep("python-read-only")
        reader = self.attach()
        self.addCleanup(reader.forget, "python-read-only")
        array = reader.open_region("python-read-only").array()
        with self.assertRaises(ValueError):
            array.flags.writeable = True
        with self.assertRaises(ValueError):
            array[0] = 1

    def test_labels_that_are_none_and_labels_of_nothing_are_refused(self):
        self.assertRaises(aios.NotFound, self.instance.open_region, "python-nothing")
        self.assertRaises(aios.WrongType, self.instance.open_region, "echo")
        self.assertRaises(aios.NotFound, self.instance.forget, "python-nothing")
        with self.instance.create_region(PAGE) as region:
            self.assertRaises(aios.InvalidArgument, region.keep, "a/b")
            self.assertRaises(aios.InvalidArgument, region.keep, "a\0b")
            self.assertRaises(aios.AlreadyExists, region.keep, "storage")
            self.assertRaises(ValueError, region.keep, "label", 7)

    def test_a_server_of_the_instance_reads_what_an_array_holds(self):
        region = self.instance.create_region(PAGE)
        region.array("u8")[:10] = numpy.arange(10)
        with self.instance.connect("echo", ECHO_VERSION) as echo:
            handle = echo.grant(region)
            self.assertEqual(WORD.unpack(echo.call(SUM, WORD.pack(handle))), (45,))
            other = self.attach()
            foreign = other.create_region(PAGE)
            self.assertRaises(aios.InvalidArgument, echo.grant, foreign)
            self.assertRaises(aios.BadHandle, echo.receive, 123456)


class Placing(Case):
    def setUp(self):
        self.instance = self.attach()

    def test_it_may_lie_on_a_node_or_on_all_and_in_huge_pages(self):
        for options in ({"numa_node": 0}, {"spread": True}, {"huge_pages": True}):
            with self.instance.create_region(PAGE, **options) as region:
                self.assertEqual(region.size_bytes % (2 << 20 if "huge_pages" in options else PAGE), 0)
                region.data[0] = 1

    def test_what_makes_no_sense_is_refused(self):
        for options in ({"numa_node": -1}, {"numa_node": 64}, {"numa_node": 0, "spread": True}):
            with self.assertRaises(aios.InvalidArgument):
                self.instance.create_region(PAGE, **options)


    def test_numbers_may_be_those_of_numpy(self):
        with self.instance.create_region(numpy.prod((64, 64)), numa_node=numpy.int8(0)) as region:
            self.assertEqual(region.size_bytes, PAGE)
        for wrong in (numpy.float64(PAGE), "4096", numpy.array([1, 2])):
            self.assertRaises(TypeError, self.instance.create_region, wrong)
        self.assertRaises(aios.InvalidArgument, self.instance.create_region, numpy.int64(-1))


class Freezing(Case):
    def setUp(self):
        self.instance = self.attach()

    def test_a_frozen_region_can_only_be_read(self):
        region = self.instance.create_region(PAGE, freezable=True)
        region.data[:2] = b"ab"
        self.assertFalse(region.frozen)
        region.freeze()
        region.freeze()
        self.assertTrue(region.frozen)
        self.assertFalse(region.writable)
        self.assertEqual(region.data[:2], b"ab")
        self.assertTrue(region.data.readonly)
        self.assertFalse(region.array().flags.writeable)

    def test_it_is_busy_while_an_array_could_write_to_it(self):
        region = self.instance.create_region(PAGE, freezable=True)
        array = region.array()
        reader = memoryview(array).toreadonly()
        with self.assertRaisesRegex(aios.Busy, "arrays"):
            region.freeze()
        del array
        self.assertRaises(aios.Busy, region.freeze)
        del reader
        region.freeze()
        self.assertTrue(region.frozen)

    def test_it_needs_a_region_that_was_created_for_it(self):
        with self.instance.create_region(PAGE) as region:
            self.assertRaises(aios.NotSupported, region.freeze)
            region.data[0] = 1


def mappings():
    gc.collect()
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return sum("memfd:" in line for line in maps)

