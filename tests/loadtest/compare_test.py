#!/usr/bin/env python3
"""loadtest/compare.py on made-up runs."""
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

COMPARE = pathlib.Path(__file__).resolve().parents[2] / "loadtest/compare.py"


def run_lines(slower=1.0, requests=200, seed=1):
    """Requests ten milliseconds apart; `slower` stretches their latencies."""
    rng = random.Random(seed)
    lines = []
    for i in range(requests):
        ttft, gaps = slower * rng.uniform(40, 60), [slower * rng.uniform(8, 12) for _ in range(9)]
        lines.append({"scheduled_ms": 10 * i, "outcome": "completed", "output_tokens": 10, "ttft_ms": ttft,
                      "e2el_ms": ttft + sum(gaps), "itl_ms": gaps})
    return lines


class Compare(unittest.TestCase):
    def compare(self, *runs, arguments=()):
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for i, lines in enumerate(runs):
                paths.append(pathlib.Path(folder) / f"{i}.jsonl")
                paths[-1].write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
            return subprocess.run([sys.executable, COMPARE, *paths, *arguments], capture_output=True, text=True)

    def test_a_run_equals_itself(self):
        result = self.compare(run_lines(), run_lines())
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.count("x 1.000"), 7)

    def test_noise_is_no_regression(self):
        self.assertEqual(self.compare(run_lines(seed=1), run_lines(seed=2)).returncode, 0)

    def test_twice_as_slow_is_seen_and_fails(self):
        result = self.compare(run_lines(), run_lines(), run_lines(slower=2))
        self.assertEqual(result.returncode, 1)
        self.assertIn("x 2.000", result.stdout)
        self.assertEqual(result.stdout.count("WORSE"), 6, result.stdout)  # the throughput follows the arrivals

    def test_a_bound_forgives_what_is_within_it(self):
        self.assertEqual(self.compare(run_lines(), run_lines(slower=1.2)).returncode, 1)
        self.assertEqual(self.compare(run_lines(), run_lines(slower=1.2), arguments=["--bound", "0.3"]).returncode, 0)

    def test_what_is_not_a_run_is_named(self):
        for lines, named in ((["{\n"], "1.jsonl:1"), (run_lines()[:1] + ["{}\n"], "1.jsonl:2"), ([], "no completed")):
            result = self.compare(run_lines(), lines)
            self.assertEqual(result.returncode, 2)
            self.assertIn(named, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
