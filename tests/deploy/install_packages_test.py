#!/usr/bin/env python3
"""deploy/install_packages.sh against made-up dpkg-query and apt-get programs."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "install_packages.sh"
LIST = "# heading\nalpha\nlib++-dev   # why\n\nenvoy  # cluster\nclang-14  # tests\n"


class InstallPackages(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        shutil.copy(SCRIPT, self.folder)
        (self.folder / "packages.txt").write_text(LIST)
        self.log = self.folder / "apt.log"

    def program(self, name, text):
        path = self.folder / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)

    def run_script(self, *arguments, installed=(), apt_status=0):
        lines = "".join(f"echo 'installed {name}'\n" for name in installed)
        self.program("dpkg-query", lines + "echo 'config-files alpha'\n")
        self.program("apt-get", f'echo "$@" >> {self.log}\nexit {apt_status}\n')
        self.program("sudo", 'exec "$@"\n')
        path = f"{self.folder}:{os.environ['PATH']}"
        done = subprocess.run([self.folder / SCRIPT.name, *arguments], env=os.environ | {"PATH": path}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return done.returncode, done.stderr, self.log.read_text() if self.log.exists() else ""

    def test_leaves_apt_alone_where_nothing_lacks(self):
        self.assertEqual(self.run_script(installed=["alpha", "lib++-dev"]), (0, "", ""))

    def test_asks_for_what_lacks_only(self):
        status, _, log = self.run_script(installed=["alpha"])
        self.assertEqual(status, 0)
        self.assertTrue(log.splitlines()[0].endswith("update"))
        self.assertTrue(log.splitlines()[1].endswith(" install -y --no-install-recommends lib++-dev"), log)

    def test_a_removed_package_lacks(self):
        self.assertIn("install -y --no-install-recommends alpha", self.run_script(installed=["lib++-dev"])[2])

    def test_packages_with_a_mark_come_where_asked(self):
        for option, names in (([], ""), (["--cluster"], " envoy"), (["--tests"], " envoy clang-14")):
            self.log.unlink(missing_ok=True)
            log = self.run_script(*option, installed=["alpha", "lib++-dev"])[2]
            self.assertTrue(log.endswith(f"--no-install-recommends{names}\n") if names else not log, log)

    def test_failure_is_one_clear_line(self):
        status, errors, _ = self.run_script(apt_status=100)
        self.assertEqual(status, 1)
        self.assertIn("apt-get update failed", errors.splitlines()[-1])

    def test_wrong_usage(self):
        self.assertEqual(self.run_script("--bogus")[0], 2)


if __name__ == "__main__":
    unittest.main()
