#!/usr/bin/env python3
"""Many fine-tunes over one base: memory of a daemon with all of them loaded, the first use of each, and its neighbours.

usage: adapter_serving.py [--model F] [--adapters 32] [--threads 2] [--rounds 3] [--json F]

Makes as many deltas of the model, of random signs for every projection, and serves them from one daemon. Prints the resident
memory with none and with all of them loaded, beside the bytes of their files and as many daemons; the time to the first token of
each adapter's first request and of its second; and the p99 time between tokens of a stream on the base: alone, while others'
first requests load their adapters, and while the same requests find them loaded, which is what sharing steps costs. The last
three are medians over rounds with a fresh daemon each.
"""
import argparse
import json
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import compare_llama_cpp as compare

daemons = compare.daemons

PROJECTIONS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def inspect(model):
    lines = subprocess.run([daemons.BIN / "nibble", "inspect", model], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {line[:24].strip(): line[24:].strip() for line in lines.splitlines()}


def shapes_of(about):
    """Rows and columns of every projection, from what `nibble inspect` says."""
    layers, _, _, width, _, inner = about["layers"].replace(",", "").split()
    heads, kv_heads = about["heads"].split(",")[0], about["heads"].split()[1]
    length = about["heads"].rsplit(" ", 1)[1]
    width, inner, length = int(width), int(inner), int(length)
    queries, keys = int(heads) * length, int(kv_heads) * length
    rows = dict(zip(PROJECTIONS, ((queries, width), (keys, width), (keys, width), (width, queries), (inner, width),
                                  (inner, width), (width, inner))))
    return {f"blk.{layer}.{name}.weight": shape for layer in range(int(layers)) for name, shape in rows.items()}


def write_delta(path, shapes, base_sha256, seed):
    """A delta file as engine/adapters/delta_file.h has it, of random signs."""
    source = random.Random(seed)
    header = {"__metadata__": {"format": "nibble-delta", "format_version": "1", "base_sha256": base_sha256,
                               "tuned_sha256": f"{seed:064x}", "method": "random"}}
    parts, at = [], 0
    for name, (rows, cols) in shapes.items():
        words = (cols + 31) // 32
        assert cols % 32 == 0, f"{name}: its last word would need a mask"
        signs, scale = source.randbytes(4 * rows * words), struct.pack("<f", 1e-4)
        for suffix, dtype, shape, data in ((".signs", "U32", [1, rows, words], signs), (".scale", "F32", [1, 1], scale)):
            header[name + suffix] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
            parts.append(data)
            at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def resident(daemon):
    status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def command(daemon, *flags):
    return [daemons.BIN / "nibble-loadtest", "--target", "grpc://" + daemon.ready["grpc"], "--json", "-", *map(str, flags)]


def first_tokens(daemon, names, folder):
    """Milliseconds to the first token of one request for each adapter, one after another."""
    log = folder / "requests.jsonl"
    taken = []
    for name in names:
        compare.figures_of(command(daemon, "--requests", 1, "--max-concurrency", 1, "--input-tokens", 16, "--output-tokens", 4,
                                   "--adapters", name, "--requests-jsonl", log))
        taken.append(json.loads(log.read_text().splitlines()[0])["ttft_ms"])
    return taken


def token_gaps(daemon, meanwhile=None):
    """p99 milliseconds between tokens of a stream on the base."""
    stream = subprocess.Popen(command(daemon, "--requests", 2, "--max-concurrency", 1, "--input-tokens", 16, "--output-tokens",
                                      400), stdout=subprocess.PIPE, text=True)
    if meanwhile:
        meanwhile()
    return json.loads(stream.communicate()[0])["p99_itl_ms"]


def neighbour(args, flags, names, folder):
    """p99 milliseconds between tokens of a stream on the base: alone, while adapters are loaded, and once they are."""
    daemon = daemons.Daemon(*flags, model=args.model)
    try:
        return {"alone": token_gaps(daemon),
                **{meanwhile: token_gaps(daemon, lambda: first_tokens(daemon, names, folder))
                   for meanwhile in ("loading", "loaded")}}
    finally:
        daemon.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=daemons.MODEL)
    parser.add_argument("--adapters", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    about = inspect(args.model)
    figures = {"adapters": args.adapters}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        names = [f"tenant-{i}" for i in range(args.adapters)]
        for i, name in enumerate(names):
            write_delta(folder / f"{name}.safetensors", shapes_of(about), about["weights_sha256"], i)
        figures["delta_bytes"] = (folder / f"{names[0]}.safetensors").stat().st_size
        flags = ["--threads", str(args.threads), "--adapters", folder, "--adapter-memory", "16GiB"]
        daemon = daemons.Daemon(*flags, model=args.model)
        try:
            token_gaps(daemon)  # touches what serving touches
            figures["base_bytes"] = resident(daemon)
            figures["cold_ttft_ms"] = first_tokens(daemon, names, folder)
            figures["warm_ttft_ms"] = first_tokens(daemon, names, folder)
            figures["all_bytes"] = resident(daemon)
        finally:
            daemon.kill()
        figures["itl_p99_ms"] = [neighbour(args, flags, names, folder) for _ in range(args.rounds)]
    report(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def report(figures):
    mib, count = 1 << 20, figures["adapters"]
    expected = figures["base_bytes"] + count * figures["delta_bytes"]
    print(f"resident: {figures['base_bytes'] / mib:.0f} MiB with none, {figures['all_bytes'] / mib:.0f} MiB with {count}, "
          f"{figures['all_bytes'] / expected - 1:+.1%} of the base and {count} files of {figures['delta_bytes'] / mib:.1f} MiB; "
          f"{count} daemons: {count * figures['base_bytes'] / figures['all_bytes']:.1f} times as much")
    cold, warm = figures["cold_ttft_ms"], figures["warm_ttft_ms"]
    print(f"first token: {statistics.median(cold):.0f} ms (at most {max(cold):.0f}) where the adapter is loaded for it, "
          f"{statistics.median(warm):.0f} ms (at most {max(warm):.0f}) afterwards")
    for name, of in (("alone", None), ("loading", "loaded"), ("loaded", "alone")):
        taken = [gaps[name] for gaps in figures["itl_p99_ms"]]
        ratios = [gaps[name] / gaps[of] for gaps in figures["itl_p99_ms"]] if of else []
        beside = f", {statistics.median(ratios):.2f} times {of} ({min(ratios):.2f} to {max(ratios):.2f})" if of else ""
        print(f"between tokens of a stream on the base, p99, {name}: {statistics.median(taken):.2f} ms ({min(taken):.2f} to "
              f"{max(taken):.2f}){beside}")


if __name__ == "__main__":
    main()
