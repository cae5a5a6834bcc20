#!/usr/bin/env python3
"""What a flood of one tenant does to the time to first token of another, over the wire.

usage: flood.py [--model F] [--threads N] [--share 0.15] [--requests 100] [--times 100] [--step-tokens 128] [--json F]

Serves two tenants from one daemon as server/README.md advises: the noisy one may run fewer sequences than there are places,
in half of the pages, and few of its requests may wait. The quiet one asks at a steady rate, at which it would keep the daemon
busy for --share of the time if it were alone: from a half on a tenant is not quiet, since that is all it is owed beside
another. It asks first alone, then while the noisy one asks so many times as often, most of which is refused. Prints the quiet
tenant's time to first token in both, and the bound of the robustness table: twice what it is alone (p99), and one prefill
chunk, measured as the first token of a prompt of one step's tokens on the idle daemon. Exit status 1 where the bound does not
hold. The daemon computes on one core fewer than there are, as the flood has to come from somewhere; on a machine that does
other work too, the figures say nothing.
"""
import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import compare_llama_cpp as compare

daemons = compare.daemons

MAX_SEQUENCES, NOISY_SEQUENCES = 16, 6
LEAD_S = 5  # the flood begins so long before the quiet tenant asks
TENANTS = f'''
tenants {{ name: "quiet" key_sha256: "{hashlib.sha256(b"quiet-key").hexdigest()}" }}
tenants {{ name: "noisy" key_sha256: "{hashlib.sha256(b"noisy-key").hexdigest()}"
          limits {{ concurrent_sequences: {NOISY_SEQUENCES} kv_share: 0.5 queue_share: 0.03 }} }}
'''


class Load:
    """Runs nibble-loadtest with one tenant's key."""

    def __init__(self, daemon, folder, tenant, *flags):
        keys = folder / f"{tenant}.keys"
        keys.write_text(f"{tenant} {tenant}-key 1\n")
        self.process = subprocess.Popen(
            [daemons.BIN / "nibble-loadtest", "--target", "grpc://" + daemon.ready["grpc"], "--tenants", keys, "--json", "-",
             *map(str, flags)], stdout=subprocess.PIPE, text=True)

    def figures(self):
        """Of a run that may have had failures."""
        return json.loads(self.process.communicate()[0])


def quiet_load(daemon, folder, requests, seed, *pace):
    return Load(daemon, folder, "quiet", "--requests", requests, "--input-tokens", 128, "--output-tokens", 16, "--seed", seed,
                *pace)


def measure(args, folder):
    tenants = folder / "tenants.textproto"
    tenants.write_text(TENANTS)
    tenants.chmod(0o600)
    daemon = daemons.Daemon("--tenants", tenants, "--threads", str(args.threads), "--step-tokens", str(args.step_tokens),
                            "--max-sequences", str(MAX_SEQUENCES), model=args.model)
    try:
        chunk = Load(daemon, folder, "quiet", "--requests", 20, "--max-concurrency", 1, "--input-tokens", args.step_tokens,
                     "--output-tokens", 1, "--warmup", 3, "--seed", 1).figures()
        one = quiet_load(daemon, folder, 20, 5, "--max-concurrency", 1).figures()
        rate = args.share / (one["mean_e2el_ms"] / 1000)
        alone = quiet_load(daemon, folder, args.requests, 2, "--rate", rate).figures()
        flood = Load(daemon, folder, "noisy", "--requests", int(args.times * (args.requests + LEAD_S * rate)), "--rate",
                     args.times * rate, "--input-tokens", "uniform:50:400", "--output-tokens", 30, "--seed", 3)
        time.sleep(LEAD_S)
        flooded = quiet_load(daemon, folder, args.requests, 4, "--rate", rate).figures()
        return {"rate": rate, "chunk": chunk, "alone": alone, "flooded": flooded, "noisy": flood.figures()}
    finally:
        daemon.kill()


def report(figures):
    """True where the bound holds."""
    bound = 2 * figures["alone"]["p99_ttft_ms"] + figures["chunk"]["median_ttft_ms"]
    print("| quiet tenant | completed | failed | TTFT p50, ms | TTFT p99, ms | of alone |")
    print("|---|---|---|---|---|---|")
    for name in ("alone", "flooded"):
        of = figures[name]
        print(f"| {name} | {of['completed']} | {of['failed']} | {of['p50_ttft_ms']:.1f} | {of['p99_ttft_ms']:.1f} "
              f"| {of['p99_ttft_ms'] / figures['alone']['p99_ttft_ms']:.2f} |")
        if of["invalid"]:
            print(f"{name}: {of['invalid']}", file=sys.stderr)
    print(f"| bound | | | | {bound:.1f} | {bound / figures['alone']['p99_ttft_ms']:.2f} |")
    noisy = figures["noisy"]
    print(f"{figures['rate']:.2f} requests/s; one chunk: {figures['chunk']['median_ttft_ms']:.1f} ms; of the noisy tenant's "
          f"requests {noisy['completed']} were answered and {noisy['failed']} refused")
    return figures["flooded"]["failed"] == 0 and figures["flooded"]["p99_ttft_ms"] <= bound


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=daemons.MODEL)
    parser.add_argument("--threads", type=int, default=max(1, os.cpu_count() - 1))
    parser.add_argument("--share", type=float, default=0.15)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--step-tokens", type=int, default=128)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(args, pathlib.Path(folder))
    holds = report(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
