#!/usr/bin/env python3
"""Long chats in little KV memory, by KV codec: sequences that run at once, preemptions, and goodput.

usage: kv_memory.py --calibration F.nibblekv [--model F] [--kv-memory 64MiB] [--threads 2] [--codecs f16,kivi2,klt2,…]
                    [--requests N] [--json F]

Runs loadtest/scenarios/kv-memory.flags on a fresh daemon for each codec and prints what the daemon's metrics and the harness
say: the most sequences that ran at the same time (seen four times a second), how many were preempted, the goodput under the
scenario's objective, and output tokens per second, also as a multiple of the first codec's. --requests: fewer, only to see
that everything runs.
"""
import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import compare_llama_cpp as compare

daemons = compare.daemons

SCENARIO = daemons.ROOT / "loadtest" / "scenarios" / "kv-memory.flags"
CODECS = "f16,int8,int4,kivi4,kivi2,cq2,cq1,klt3,klt2,klt1"


def measure(args, codec):
    flags = ["--kv", codec, "--kv-memory", args.kv_memory, "--threads", str(args.threads), "--max-sequences", "64"]
    if codec.startswith(("cq", "klt")):
        flags += ["--kv-calibration", args.calibration]
    daemon = daemons.Daemon(*flags, model=args.model)
    try:
        command = [daemons.BIN / "nibble-loadtest", "--target", "grpc://" + daemon.ready["grpc"], "--metrics-url",
                   f"http://{daemon.ready['metrics']}/metrics", "--scenario", SCENARIO, "--json", "-"]
        if args.requests:
            command += ["--requests", str(args.requests)]
        return compare.figures_of(command)
    finally:
        daemon.kill()


def row_of(codec, result):
    metrics = result["metrics"]
    return {"codec": codec, "most_running": max(metrics["vllm:num_requests_running"]),
            "preemptions": metrics["vllm:num_preemptions_total"][-1], "goodput_per_s": result["request_goodput"],
            "slo_attainment": result["slo_attainment"], "output_tokens_per_s": result["output_throughput"],
            "p99_ttft_ms": result["p99_ttft_ms"], "p99_tpot_ms": result["p99_tpot_ms"], "invalid": result["invalid"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--model", type=pathlib.Path, default=daemons.MODEL)
    parser.add_argument("--kv-memory", default="64MiB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--codecs", default=CODECS)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    rows = []
    print("| KV codec | running at once | preemptions | goodput, requests/s | met | output tokens/s | × | TTFT p99, ms | TPOT p99, ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for codec in args.codecs.split(","):
        row = row_of(codec, measure(args, codec))
        rows.append(row)
        print(f"| {codec} | {row['most_running']:.0f} | {row['preemptions']:.0f} | {row['goodput_per_s']:.2f} "
              f"| {100 * row['slo_attainment']:.0f} % | {row['output_tokens_per_s']:.1f} "
              f"| {row['output_tokens_per_s'] / rows[0]['output_tokens_per_s']:.2f} | {row['p99_ttft_ms']:.0f} "
              f"| {row['p99_tpot_ms']:.1f} |", flush=True)
        if row["invalid"]:
            print(f"{codec}: {row['invalid']}", file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps({"kv_memory": args.kv_memory, "threads": args.threads, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
