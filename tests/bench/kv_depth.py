#!/usr/bin/env python3
"""Decode speed behind a long prompt, by type of KV cache: Nibble's codecs and llama.cpp's cache types, in one run.

usage: kv_depth.py --calibration F.nibblekv [--model F] [--depth 6144] [--rounds 3] [--codecs f16,kivi2,klt2] [--types f16,q8_0,q4_0]

Needs `pip install xllamacpp` and a release build. One request at a time: a prompt of --depth tokens, 64 greedy tokens;
the figure is one over the mean time per output token (the first left out), so prefill does not count. A round runs every
row once on a fresh server, in turn, and also each codec behind a prompt of 32 tokens; medians are printed. No warm-up:
llama.cpp takes minutes for the long prompt with its q4_0 cache.
"""
import argparse
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import compare_llama_cpp as compare


def workload(depth):
    return compare.Workload("decode", f"decode behind {depth} tokens", 1, 1, depth, 64, warmup=0)


def nibble(args, codec, depth):
    flags = ("--kv", codec, "--kv-calibration", args.calibration)
    return compare.nibble(args.model, args.threads, workload(depth), *flags)


def rows_of(args):
    """Name -> (server, depth, how to run it)."""
    rows = {}
    for codec in args.codecs.split(","):
        for depth in (32, args.depth):
            rows[f"nibble {codec}, depth {depth}"] = ("nibble", depth, lambda c=codec, d=depth: nibble(args, c, d))
    for kind in args.types.split(","):
        run = lambda k=kind: compare.llama_cpp(args.model, args.threads, workload(args.depth), k)
        rows[f"llama.cpp {kind}, depth {args.depth}"] = ("llama.cpp", args.depth, run)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--model", type=pathlib.Path, default=compare.daemons.MODEL)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--depth", type=int, default=6144)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--codecs", default="f16,kivi2,klt2")
    parser.add_argument("--types", default="f16,q8_0,q4_0")
    args = parser.parse_args()
    rows = rows_of(args)
    speeds = {name: [] for name in rows}
    for number in range(args.rounds):
        for name, (server, depth, run) in rows.items():
            speeds[name].append(compare.drive(server, run(), workload(depth), seed=number))
            print(f"round {number + 1}: {name}: {speeds[name][-1]:.1f} tokens/s", file=sys.stderr)
    for name, values in speeds.items():
        print(f"{name:32} {statistics.median(values):8.1f} tokens/s   {min(values):.1f} to {max(values):.1f}")


if __name__ == "__main__":
    main()
