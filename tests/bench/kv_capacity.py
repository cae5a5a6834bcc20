#!/usr/bin/env python3
"""How many sequences of 2048 tokens run together in a given KV memory without preemption, by codec.

usage: kv_capacity.py --calibration F.nibblekv [--model F] [--kv-memory 64MiB] [--codecs f16,kivi2,klt2,klt1]

Sends N requests at once to a fresh daemon, 1984 tokens in and 64 out, and looks for the largest N of which none is
preempted and all run at the same time: N doubles, then the last doubling is halved. Everything counts against the memory:
pages, raw slots, codebooks.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
sys.dont_write_bytecode = True
import daemon as daemons

INPUT_TOKENS, OUTPUT_TOKENS = 1984, 64


def metric(daemon, name):
    page = urllib.request.urlopen(f"http://{daemon.ready['metrics']}/metrics", timeout=10).read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE))


class Watch(threading.Thread):
    """The most sequences that ran at the same time."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.daemon_process, self.most, self.ended = daemon, 0, threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.05):
            self.most = max(self.most, int(metric(self.daemon_process, "vllm:num_requests_running")))


def holds(args, codec, count):
    """Whether `count` sequences run together without preemption."""
    daemon = daemons.Daemon("--kv", codec, "--kv-calibration", args.calibration, "--kv-memory", args.kv_memory,
                            "--max-sequences", "64", model=args.model)
    try:
        watch = Watch(daemon)
        run = subprocess.run(
            [daemons.BIN / "nibble-loadtest", "--target", "grpc://" + daemon.ready["grpc"], "--json", "-", "--requests",
             str(count), "--max-concurrency", str(count), "--input-tokens", str(INPUT_TOKENS), "--output-tokens",
             str(OUTPUT_TOKENS)], stdout=subprocess.PIPE, text=True, check=True)
        watch.ended.set()
        watch.join()
        completed = json.loads(run.stdout)["completed"]
        return completed == count and watch.most == count and metric(daemon, "vllm:num_preemptions_total") == 0
    finally:
        daemon.kill()


def capacity(args, codec):
    held, fails = 0, 1
    while holds(args, codec, fails):
        held, fails = fails, 2 * fails
    while fails - held > 1:
        middle = (held + fails) // 2
        held, fails = (middle, fails) if holds(args, codec, middle) else (held, middle)
    return held


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--model", type=pathlib.Path, default=daemons.MODEL)
    parser.add_argument("--kv-memory", default="64MiB")
    parser.add_argument("--codecs", default="f16,kivi2,klt2,klt1")
    args = parser.parse_args()
    for codec in args.codecs.split(","):
        print(f"{codec:6} {capacity(args, codec)} sequences of {INPUT_TOKENS + OUTPUT_TOKENS} tokens", flush=True)


if __name__ == "__main__":
    main()
