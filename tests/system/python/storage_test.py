"""Objects in storage."""

import os

import numpy

import aios
from common import Case, Thread

PAGE = 4096


class Objects(Case):
    def setUp(self):
        self.instance = self.attach()
        self.storage = self.enterContext(self.instance.storage())
        self.prefix = f"python/{self._testMethodName}/"

    def test_what_was_put_is_got(self):
        name = self.prefix + "object"
        for data in (b"hello", b"", bytearray(b"bytes"), memoryview(b"view"),
                     numpy.arange(1000, dtype="f8"), os.urandom(5_000_000)):
            info = self.storage.put(name, data)
            self.assertEqual(info.size_bytes, memoryview(data).nbytes)
            self.assertEqual(self.storage.stat(name), info)
            self.assertEqual(self.storage.get(name), memoryview(data).cast("B"))
        self.storage.remove(name)
        self.assertRaises(aios.NotFound, self.storage.get, name)

    def test_a_part_goes_into_memory_of_the_callers(self):
        info = self.storage.put(self.prefix + "numbers", numpy.arange(100, dtype="u4"))
        some = numpy.zeros(10, "u4")
        name = self.prefix + "numbers"
        self.assertEqual(self.storage.get_into(name, some, offset=40), 40)
        self.assertEqual(list(some), list(range(10, 20)))
        self.assertEqual(self.storage.get_into(name, some, offset=396, version=info.version), 4)
        self.assertEqual((some[0], some[1]), (99, 11))
        self.assertEqual(self.storage.get_into(name, some, offset=400), 0)
        self.storage.put(name, b"another")
        self.assertRaises(aios.SourceChanged, self.storage.get_into, name, some,
                          version=info.version)
        self.assertRaises(BufferError, self.storage.get_into, name, b"read-only")
        self.assertRaises(ValueError, self.storage.get_into, name, some[::2])

    def test_regions_are_stored_and_filled_without_a_copy(self):
        name = self.prefix + "region"
        region = self.instance.create_region(4 * PAGE)
        region.array("u4")[:] = numpy.arange(region.size_bytes // 4)
        self.assertEqual(self.storage.put_region(name, region).size_bytes, region.size_bytes)
        other = self.instance.create_region(4 * PAGE)
        self.assertEqual(self.storage.get_region(name, other), region.size_bytes)
        self.assertTrue((other.array() == region.array()).all())
        self.assertEqual(self.storage.get_region(name, other, PAGE, 8, offset=40), 8)
        self.assertEqual(list(other.array("u4", 2, PAGE)), [10, 11])
        self.storage.put_region(name, region, PAGE, PAGE)
        self.assertEqual(self.storage.get(name), region.data[PAGE:2 * PAGE])
        for wrong in ((region.size_bytes + 1, None), (PAGE, region.size_bytes), (-1, 1), (0, -1)):
            self.assertRaises(aios.InvalidArgument, self.storage.put_region, name, region, *wrong)
        # Storage takes back what is closed, with arrays over it or without.
        array = region.array()
        region.close()
        self.storage.stat(name)
        self.assertEqual(array[4], 1)

    def test_a_listing_has_all_names_in_order_over_several_pages(self):
        names = sorted(f"{self.prefix}{i:03}-ä" for i in range(300))
        for name in reversed(names):
            self.storage.put(name, b"x")
        listed = list(self.storage.list(self.prefix))
        self.assertEqual([entry.name for entry in listed], names)
        self.assertEqual(listed[7].info, self.storage.stat(names[7]))
        self.assertEqual(list(self.storage.list(self.prefix + "nothing")), [])

    def test_a_name_that_is_not_utf_8_comes_back_as_it_was(self):
        name = self.prefix + b"\xff\xfe".decode("utf-8", "surrogateescape")
        self.storage.put(name, b"x")
        self.assertEqual([entry.name for entry in self.storage.list(self.prefix)], [name])
        self.assertEqual(self.storage.get(name), b"x")

    def test_an_object_moves_and_replaces(self):
        first, second = self.prefix + "1", self.prefix + "2"
        self.storage.put(first, b"first")
        self.storage.put(second, b"second")
        self.storage.rename(first, second)
        self.assertEqual(self.storage.get(second), b"first")
        self.assertRaises(aios.NotFound, self.storage.stat, first)
        self.assertRaises(aios.NotFound, self.storage.rename, first, second)
        self.assertRaises(aios.NotFound, self.storage.remove, first)

    def test_names_and_values_that_make_no_sense_are_refused(self):
        for name in ("", "/", "a//b", "a/../b", "x" * (aios.MAX_OBJECT_NAME_BYTES + 1), "a\0b",
                     "a\nb"):
            self.assertRaises(aios.InvalidArgument, self.storage.put, name, b"")
        self.assertRaises(TypeError, self.storage.put, b"name", b"")
        self.assertRaises(TypeError, self.storage.put, "name", "text")
        self.assertRaises(TypeError, self.storage.put, "name", 7)
        self.assertRaises(aios.InvalidArgument, self.storage.put, "name", b"", -1)
        self.assertRaises(aios.InvalidArgument, self.storage.get_into, "n", bytearray(1), -1)

    def test_threads_over_one_storage_take_turns(self):
        def work(number):
            name, data = f"{self.prefix}{number}", os.urandom(100_000)
            for _ in range(5):
                self.storage.put(name, data)
                if self.storage.get(name) != data:
                    return False
            return True

        self.assertTrue(all(thread.result() for thread in [Thread(work, n) for n in range(3)]))

    def test_a_closed_storage_says_so(self):
        storage = self.instance.storage()
        storage.close()
        self.assertRaises(aios.BadHandle, storage.get, "name")
        self.assertRaises(aios.BadHandle, list, storage.list())
