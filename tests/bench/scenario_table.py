#!/usr/bin/env python3
"""The README's table of scenarios: Nibble and llama.cpp's server under the same load, in the same run.

usage: scenario_table.py [--models F,F] [--clients 1,4,16,32] [--threads 2] [--rounds 3] [--scenario clients] [--context 288]
                         [--quick] [--json F]

Needs `pip install xllamacpp` (llama.cpp's own server as a Python module) and a release build. Runs loadtest/scenarios/NAME.flags
with each number of clients, on SmolLM2 and Qwen2.5-Coder-0.5B unless --models says otherwise, with max(16, 2 * clients)
requests. One server runs at a time, freshly started; who goes first alternates by round. llama.cpp gets a slot of --context
tokens for each client, an f16 KV cache and continuous batching; Nibble its defaults and as many sequences.

Prints medians over the rounds: output tokens per second, TTFT and TPOT in milliseconds (percentiles of each run), and the peak
of resident memory (of llama.cpp, less what its Python held before it loaded the model). --quick: one round of a sixteenth of the
work, only to see that everything runs.
"""
import argparse
import json
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import compare_llama_cpp as compare

SCENARIOS = compare.daemons.ROOT / "loadtest" / "scenarios"
MODELS = ("smollm2.gguf", "qwen2.5-coder-0.5b.gguf")
# Column, key of the harness's JSON.
FIGURES = (("tokens/s", "output_throughput"), ("TTFT p50", "p50_ttft_ms"), ("TTFT p99", "p99_ttft_ms"),
           ("TPOT p50", "p50_tpot_ms"), ("TPOT p99", "p99_tpot_ms"), ("MiB", "peak_mib"))


def run(args, server, model, clients, seed):
    """The figures of one run on a fresh server."""
    requests = clients if args.quick else max(16, 2 * clients)
    slots = compare.Workload(args.scenario, args.scenario, clients, requests, args.context, 0)
    with compare.SERVERS[server](model, args.threads, slots) as running:
        command = [compare.daemons.BIN / "nibble-loadtest", "--target", running.target, "--json", "-", "--scenario",
                   SCENARIOS / f"{args.scenario}.flags", "--seed", str(seed), "--max-concurrency", str(clients),
                   "--requests", str(requests)]
        if args.quick:
            command += ["--input-tokens", "32", "--output-tokens", "8"]
        return {**compare.figures_of(command), "peak_mib": running.peak_bytes() / 2**20}


def rows_of(args, busy):
    """Yields model, clients, server, and the medians of its figures; adds to `busy` what others used before each run."""
    for model in args.models:
        for clients in args.clients:
            runs = {server: [] for server in compare.SERVERS}
            for number in range(1 if args.quick else args.rounds):
                for server in list(runs) if number % 2 == 0 else list(runs)[::-1]:
                    busy.append(compare.busy_share())
                    runs[server].append(run(args, server, model, clients, seed=number))
                    print(f"{model.stem}, {clients} clients, round {number + 1}: {server} "
                          f"{runs[server][-1]['output_throughput']:.1f} tokens/s {runs[server][-1]['invalid'] or ''}",
                          file=sys.stderr)
            for server, results in runs.items():
                yield model, clients, server, {key: statistics.median(r[key] for r in results) for _, key in FIGURES}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=lambda text: [pathlib.Path(path) for path in text.split(",")],
                        default=[compare.daemons.CACHE / name for name in MODELS])
    parser.add_argument("--clients", type=lambda text: [int(count) for count in text.split(",")], default=[1, 4, 16, 32])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scenario", default="clients")
    parser.add_argument("--context", type=int, default=288)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    rows, busy = [], []
    print("| model | clients | server | " + " | ".join(column for column, _ in FIGURES) + " |")
    print("|---|" + "---|" * (2 + len(FIGURES)))
    for model, clients, server, figures in rows_of(args, busy):
        rows.append({"model": model.stem, "clients": clients, "server": server, **figures})
        print(f"| {model.stem} | {clients} | {server} | " + " | ".join(f"{figures[key]:.1f}" for _, key in FIGURES) + " |",
              flush=True)
    print(f"\nBetween the runs other programs used up to {100 * max(busy):.0f} % of the CPUs; above 5 % the figures do not count.")
    if args.json:
        args.json.write_text(json.dumps({"threads": args.threads, "busy": max(busy), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
