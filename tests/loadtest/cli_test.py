#!/usr/bin/env python3
"""nibble-loadtest as a command: what it says, how it ends, and what it leaves when things go wrong.

usage: cli_test.py      needs a release build (NIBBLE_BUILD: another)
"""
import contextlib
import json
import os
import pathlib
import pty
import subprocess
import tempfile
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / os.environ.get("NIBBLE_BUILD", "build/release") / "bin"
NOWHERE = "grpc://127.0.0.1:1"


@contextlib.contextmanager
def fake_server(*delays):
    """A server of known delays: its process and target."""
    with subprocess.Popen([BIN / "fake_server", *delays], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as server:
        yield server, f"grpc://{server.stdout.readline().strip()}"
        server.kill()


def run(*flags):
    return subprocess.run([BIN / "nibble-loadtest", *flags], capture_output=True, text=True, timeout=120)


class Command(unittest.TestCase):
    def assert_fails(self, result, status, *words):
        """With one line of why."""
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def test_a_target_that_nobody_serves(self):
        self.assert_fails(run("--target", NOWHERE), 1, "GetModel")
        self.assert_fails(run("--target", NOWHERE.replace("grpc", "http")), 1, "127.0.0.1:1")

    def test_usage_is_refused_before_anything_is_sent(self):
        self.assert_fails(run("--target", NOWHERE, "--requests", "0"), 2, "--requests")
        self.assert_fails(run("--target", "ftp://a:1"), 2, "--target")
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as trace:
            trace.write('{"timestamp": 0, "input_length": 5, "output_length": 5}\n{"timestamp": 1, "input_length": 5}\n')
            trace.flush()
            result = run("--target", NOWHERE, "--workload", "trace", "--workload-file", trace.name)
            self.assert_fails(result, 2, "--workload-file", ":2:", "output_length")

    def test_a_server_that_dies_leaves_the_figures_of_what_it_answered(self):
        with fake_server("5", "1") as (server, target):
            threading.Timer(1, server.kill).start()
            result = run("--target", target, "--requests", "400", "--rate", "200", "--output-tokens", "4", "--json", "-")
        self.assert_fails(result, 1, "requests failed", "UNAVAILABLE")
        figures = json.loads(result.stdout)
        self.assertGreater(figures["completed"], 0)
        self.assertEqual(figures["completed"] + figures["failed"], 400)
        self.assertGreater(figures["p50_ttft_ms"], 0)
        self.assertIn("UNAVAILABLE", figures["failures"])

    def test_an_objective_that_no_rate_meets(self):
        with fake_server("5") as (_, target):
            result = run("--target", target, "--requests", "4", "--output-tokens", "2", "--rate", "0.03125", "--sweep", "--slo",
                         "ttft:1ms", "--json", "-")
        self.assert_fails(result, 1, "no rate holds ttft:1ms")
        figures = json.loads(result.stdout)
        self.assertEqual(figures["highest_rate"], 0)
        self.assertTrue(all(not probe["held"] for probe in figures["probes"]))

    def test_metrics_that_cannot_be_scraped_are_a_warning(self):
        with fake_server() as (_, target):
            result = run("--target", target, "--requests", "4", "--metrics-url", "http://127.0.0.1:1/metrics", "--json", "-")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("warning: ", result.stderr)
        figures = json.loads(result.stdout)
        self.assertEqual(figures["completed"], 4)
        self.assertGreater(figures["metrics"]["failed_scrapes"], 0)

    def test_a_steady_state_of_nothing_leaves_the_figures_of_the_run(self):
        with fake_server() as (_, target):
            result = run("--target", target, "--requests", "4", "--steady-state", "1h:0s", "--json", "-")
        self.assert_fails(result, 1, "--steady-state")
        self.assertEqual(json.loads(result.stdout)["completed"], 4)

    def test_a_file_that_cannot_be_written(self):
        with fake_server() as (_, target):
            result = run("--target", target, "--requests", "4", "--html", "/no/such/folder/page.html")
        self.assert_fails(result, 1, "/no/such/folder/page.html")
        self.assertIn("4 completed", result.stdout)

    def test_a_conversation_has_its_turns_one_after_another(self):
        with fake_server("20", "1") as (_, target), tempfile.NamedTemporaryFile("r", suffix=".jsonl") as lines:
            run("--target", target, "--workload", "chat", "--turns", "3", "--requests", "6", "--input-tokens", "10",
                "--output-tokens", "5", "--requests-jsonl", lines.name)
            turns = [json.loads(line) for line in lines]
        self.assertEqual(len(turns), 6)
        for i, turn in enumerate(turns[1:], 1):
            if i % 3:
                self.assertGreaterEqual(turn["scheduled_ms"], turns[i - 1]["scheduled_ms"] + turns[i - 1]["e2el_ms"])

    def test_a_terminal_sees_how_it_goes_and_nothing_of_it_stays(self):
        ours, theirs = pty.openpty()
        with fake_server("300", "100") as (_, target):
            command = [BIN / "nibble-loadtest", "--target", target, "--requests", "4", "--output-tokens", "10",
                       "--max-concurrency", "2"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, timeout=60)
        os.close(theirs)
        seen = os.read(ours, 65536).decode()
        os.close(ours)
        self.assertEqual(done.returncode, 0)
        self.assertIn("2 of 4 in ", seen)
        self.assertIn("TTFT p50 ", seen)
        self.assertTrue(seen.endswith("\x1b[4A\x1b[J"), seen[-40:])


if __name__ == "__main__":
    unittest.main()
