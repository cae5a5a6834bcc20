#!/usr/bin/env python3
"""What can be said of deploy/Dockerfile without building it; image_check.py beside this file builds it."""
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import image_check

STEPS = list(image_check.instructions((image_check.ROOT / "deploy" / "Dockerfile").read_text()))
RUNTIME_PACKAGES = image_check.ROOT / "deploy" / "runtime_packages.sh"


def stages():
    """The instructions of each stage, by name."""
    found = {}
    for word, rest in STEPS:
        if word == "FROM":
            name = rest.split(" AS ")[1]
            found[name] = []
        elif found:
            found[name].append((word, rest))
    return found


class Image(unittest.TestCase):
    def test_every_stage_stands_on_the_one_base_that_a_release_pins(self):
        self.assertEqual(STEPS[0][0], "ARG")
        self.assertTrue(STEPS[0][1].startswith("BASE=debian:"))
        for word, rest in STEPS:
            if word == "FROM":
                self.assertTrue(rest.startswith("${BASE} AS "), rest)

    def test_images_run_as_another_user_by_their_own_name(self):
        for name in ("nibbled", "gateway"):
            last = dict(stages()[name])
            self.assertRegex(last["USER"], r"^[1-9]\d+:[1-9]\d+$")
            self.assertTrue(last["ENTRYPOINT"].startswith("["), "a shell would not hand on SIGTERM")
            words = [word for word, _ in stages()[name]]
            self.assertGreater(words.index("USER"), max(i for i, w in enumerate(words) if w in ("RUN", "COPY")))

    def test_the_daemon_image_has_no_compiler_and_no_lists(self):
        text = " ".join(rest for word, rest in stages()["nibbled"])
        self.assertNotRegex(text, r"install_packages|g\+\+|cmake")
        self.assertIn("rm -rf /var/lib/apt/lists/*", text)
        self.assertNotIn("ADD", {word for word, _ in STEPS})

    def test_built_things_and_history_stay_out(self):
        self.assertEqual((image_check.ROOT / ".dockerignore").read_text().split(), [".git", "build"])

    def test_continued_lines_and_comments(self):
        self.assertEqual(list(image_check.instructions("# a\nRUN a && \\\n    b\n\nUSER 1:1\n")),
                         [("RUN", "a && b"), ("USER", "1:1")])

    def test_runtime_packages(self):
        done = subprocess.run([RUNTIME_PACKAGES, "/bin/ls", "/bin/sh"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("libc6", done.stdout.splitlines())
        self.assertEqual(done.stdout.splitlines(), sorted(set(done.stdout.splitlines())))
        self.assertEqual(subprocess.run([RUNTIME_PACKAGES], capture_output=True).returncode, 2)


if __name__ == "__main__":
    unittest.main()
