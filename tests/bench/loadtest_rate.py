#!/usr/bin/env python3
"""Streamed tokens per second that nibble-loadtest takes on one core, from a server that has nothing else to do.

usage: loadtest_rate.py [--streams 64] [--tokens 2000] [--rounds 3]

The harness is bound to one core and the server to the others, one token a message; prints the rate, and the harness's
own CPU time per token. The server may be the slower one: the rate is then what both reach, and the CPU time still says
what the harness would take.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess

BIN = pathlib.Path(__file__).resolve().parents[2] / "build/release/bin"


def measure(address, streams, tokens):
    command = ["taskset", "-c", "0", BIN / "nibble-loadtest", "--target", f"grpc://{address}", "--json", "-",
               "--requests", str(2 * streams), "--max-concurrency", str(streams), "--input-tokens", "16",
               "--output-tokens", str(tokens)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    others = f"1-{os.cpu_count() - 1}"
    with subprocess.Popen(["taskset", "-c", others, BIN / "fake_server"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as server:
        address = server.stdout.readline().strip()
        runs = [measure(address, args.streams, args.tokens) for _ in range(args.rounds)]
        server.stdin.close()
    rates = [run["output_throughput"] for run in runs]
    cpu_us = [1e6 * run["client_cpu_seconds"] / run["total_output_tokens"] for run in runs]
    print(f"{statistics.median(rates):.0f} tokens/s ({min(rates):.0f} to {max(rates):.0f}), "
          f"{statistics.median(cpu_us):.1f} us of the core a token: at most {1e6 / statistics.median(cpu_us):.0f} tokens/s")


if __name__ == "__main__":
    main()
