#!/usr/bin/env python3
"""Prints how long nibbled takes to be ready and how much CPU it uses while idle.

usage: daemon_start.py [--model F] [--starts 5] [--idle-seconds 10]

The first start, which may read the file from disk, is left out. Needs a release build.
"""
import argparse
import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
sys.dont_write_bytecode = True
import daemon as daemons


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_seconds(model):
    begin = time.monotonic()
    daemon = daemons.Daemon(model=model)
    seconds = time.monotonic() - begin
    daemon.stop()
    return seconds


def idle_share(model, seconds):
    daemon = daemons.Daemon(model=model)
    time.sleep(1)
    before = cpu_seconds(daemon.process.pid)
    time.sleep(seconds)
    used = cpu_seconds(daemon.process.pid) - before
    daemon.stop()
    return used / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=daemons.MODEL)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--idle-seconds", type=float, default=10)
    args = parser.parse_args()
    starts = [start_seconds(args.model) for _ in range(args.starts + 1)][1:]
    print(f"ready after {statistics.median(starts):.2f} s (lowest {min(starts):.2f}, highest {max(starts):.2f})")
    print(f"idle CPU {100 * idle_share(args.model, args.idle_seconds):.2f} % of one core")


if __name__ == "__main__":
    main()
