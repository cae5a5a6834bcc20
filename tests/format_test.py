#!/usr/bin/env python3
"""Every C++ file is as clang-format 14 writes it, under .clang-format.

usage: format_test.py [--fix]      --fix: rewrites the files that are not
"""
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("server", "scheduler", "engine", "kvcache", "loadtest", "tests")


def sources():
    return [str(path) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".h", ".cc")]


class Format(unittest.TestCase):
    def test_every_file(self):
        done = subprocess.run(["clang-format-14", "--dry-run", *sources()], stderr=subprocess.PIPE, text=True, check=True)
        wrong = sorted({line.partition(":")[0] for line in done.stderr.splitlines() if "-Wclang-format" in line})
        self.assertFalse(wrong, "run tests/format_test.py --fix; not as clang-format 14 writes them:\n" + "\n".join(wrong))


if __name__ == "__main__":
    if sys.argv[1:] == ["--fix"]:
        subprocess.run(["clang-format-14", "-i", *sources()], check=True)
    else:
        unittest.main()
