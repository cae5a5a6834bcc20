#!/usr/bin/env python3
"""Serves one GGUF file with Nibble and with llama.cpp, in turn, and prints how they compare.

usage: compare_llama_cpp.py [--model F] [--threads 2] [--rounds 5] [--only prefill,long-prefill,decode,streams-8,streams]
                            [--llama-cpp-model F] [--json F]

Needs `pip install xllamacpp` (llama.cpp's own server as a Python module) and a release build. nibble-loadtest sends both the
same token ids: prompts of which no two share a prefix, greedy answers of a fixed length. One server runs at a time, each
freshly started, warmed up, and stopped again; llama.cpp gets as many slots as there are streams, an f16 KV cache, continuous
batching, and no prompt cache (nothing could hit it). A round runs each workload on both, whoever went second going first in
the next; the ratio of a round is Nibble's tokens per second over llama.cpp's in that round.

The wheel of xllamacpp is built for AVX2: NIBBLE_ISA=avx2 makes Nibble use no more than that. --llama-cpp-model: the same
model in a format that llama.cpp is faster with (llama_cpp_native.py --keep makes some).
"""
import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
sys.dont_write_bytecode = True
import daemon as daemons

START_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    streams: int
    requests: int
    input_tokens: int
    output_tokens: int
    warmup: int = 2

    def tokens_per_second(self, result):
        """What the workload is about: prompt tokens, one stream's tokens, or all streams' tokens."""
        if "prefill" in self.name:
            return result["total_input_tokens"] / result["duration"]
        if self.name == "decode":
            return 1000 / result["mean_tpot_ms"]
        return result["output_throughput"]


WORKLOADS = (
    Workload("prefill", "prefill, 512-token prompts", streams=1, requests=12, input_tokens=512, output_tokens=1),
    Workload("long-prefill", "prefill, 4096-token prompts", streams=1, requests=2, input_tokens=4096, output_tokens=1,
             warmup=1),
    Workload("decode", "decode, 1 stream", streams=1, requests=4, input_tokens=32, output_tokens=192),
    Workload("streams-8", "8 streams, 64 in, 96 out", streams=8, requests=16, input_tokens=64, output_tokens=96),
    Workload("streams", "32 streams, 64 in, 96 out", streams=32, requests=64, input_tokens=64, output_tokens=96),
)


@dataclasses.dataclass(frozen=True)
class Running:
    """A server that serves."""
    target: str
    pid: int
    before_bytes: int = 0  # what its process held before it became a server

    def peak_bytes(self):
        """The most memory that was resident for it until now."""
        return memory_bytes(self.pid, "VmHWM") - self.before_bytes


def memory_bytes(pid, field):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def serve_llama_cpp(model, threads, workload, cache_type, parent):
    """The child process of llama_cpp(): serves until it is killed or its parent is gone."""
    import xllamacpp

    context = workload.input_tokens + workload.output_tokens + 32
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = workload.streams
    params.n_ctx = -(-context // 256) * 256 * workload.streams
    params.cont_batching = True
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{cache_type.upper()}")
    params.verbosity = 0
    before = memory_bytes(os.getpid(), "VmRSS")
    server = xllamacpp.Server(params)
    parent.send((server.listening_address, before))
    with contextlib.suppress(EOFError):
        parent.recv()
    os._exit(0)


@contextlib.contextmanager
def llama_cpp(model, threads, workload, cache_type="f16"):
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=serve_llama_cpp, args=(model, threads, workload, cache_type, theirs),
                          daemon=True)
    child.start()
    theirs.close()
    try:
        if not ours.poll(START_SECONDS):
            raise RuntimeError("llama.cpp did not start")
        address, before = ours.recv()
        yield Running(address, child.pid, before)
    finally:
        child.kill()
        child.join()


@contextlib.contextmanager
def nibble(model, threads, workload, *flags):
    daemon = daemons.Daemon("--threads", str(threads), "--max-sequences", str(max(workload.streams, 8)), *flags,
                            model=model)
    try:
        yield Running("grpc://" + daemon.ready["grpc"], daemon.process.pid)
    finally:
        daemon.kill()


def busy_share(seconds=0.5):
    """The share of the machine's CPU time that others use while nothing of ours runs."""
    def times():
        fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = times()
    time.sleep(seconds)
    total_after, idle_after = times()
    return 1 - (idle_after - idle) / max(total_after - total, 1)


SERVERS = {"llama.cpp": llama_cpp, "nibble": nibble}


def measure(server, model, threads, workload, seed):
    """Tokens per second of one workload on a fresh server."""
    return drive(server, SERVERS[server](model, threads, workload), workload, seed)


def figures_of(command):
    """What nibble-loadtest says, with --json -. A run in which a request failed is none; one that the client spoilt says so
    under "invalid"."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} requests failed")
    return result


def drive(server, serving, workload, seed):
    with serving as running:
        command = [daemons.BIN / "nibble-loadtest", "--target", running.target, "--json", "-", "--seed", str(seed),
                   "--requests", str(workload.requests), "--warmup", str(workload.warmup),
                   "--max-concurrency", str(workload.streams), "--input-tokens", str(workload.input_tokens),
                   "--output-tokens", str(workload.output_tokens)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    expected = workload.requests * workload.output_tokens
    if result["total_output_tokens"] != expected:
        raise RuntimeError(f"{server}: {result['total_output_tokens']} tokens came, {expected} were asked for")
    return workload.tokens_per_second(result)


def run_rounds(args, workloads):
    speeds = {workload.name: {server: [] for server in SERVERS} for workload in workloads}
    busiest = 0.0
    for number in range(args.rounds):
        order = list(SERVERS) if number % 2 == 0 else list(SERVERS)[::-1]
        for workload in workloads:
            for server in order:
                busiest = max(busiest, busy_share())
                model = args.llama_cpp_model if server == "llama.cpp" and args.llama_cpp_model else args.model
                speed = measure(server, model, args.threads, workload, seed=number)
                speeds[workload.name][server].append(speed)
                print(f"round {number + 1}: {workload.name} {server} {speed:.1f} tokens/s", file=sys.stderr)
    return speeds, busiest


def row_of(workload, speeds):
    ratios = [ours / theirs for ours, theirs in zip(speeds["nibble"], speeds["llama.cpp"])]
    return {"workload": workload.name, "title": workload.title,
            "nibble_tokens_per_second": statistics.median(speeds["nibble"]),
            "llama_cpp_tokens_per_second": statistics.median(speeds["llama.cpp"]),
            "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}


def print_table(rows):
    print(f"{'tokens/s (medians)':28} {'nibble':>9} {'llama.cpp':>10} {'ratio':>6}   lowest to highest")
    for row in rows:
        print(f"{row['title']:28} {row['nibble_tokens_per_second']:9.1f} {row['llama_cpp_tokens_per_second']:10.1f} "
              f"{row['ratio']:6.2f}   {row['ratio_min']:.2f} to {row['ratio_max']:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=daemons.MODEL)
    parser.add_argument("--llama-cpp-model", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(w.name for w in WORKLOADS))
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    workloads = [w for w in WORKLOADS if w.name in args.only.split(",")]
    speeds, busiest = run_rounds(args, workloads)
    rows = [row_of(workload, speeds[workload.name]) for workload in workloads]
    print_table(rows)
    if args.llama_cpp_model:
        print(f"llama.cpp ran {args.llama_cpp_model}, nibble {args.model}.")
    print(f"Between the runs other programs used up to {100 * busiest:.0f} % of the CPUs; above 5 % the figures do not count.")
    if args.json:
        report = {"model": str(args.model), "llama_cpp_model": str(args.llama_cpp_model or args.model),
                  "threads": args.threads, "busy": busiest, "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
