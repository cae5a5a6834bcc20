#!/usr/bin/env python3
"""Nibble beside llama.cpp built for this machine's instructions: prefill and decode of one sequence, no server between.

usage: llama_cpp_native.py [--model F.gguf] [--formats file,q4_0,q8_0] [--threads 2] [--rounds 3]

compare_llama_cpp.py meets the wheel of xllamacpp, which is built for AVX2. This needs llama.cpp's own Python module built
from its source, here with what AVX-512 machines as of Ice Lake have (AMX left out: it stopped at an illegal
instruction where this was written):

  CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON" \\
      pip install --no-binary llama-cpp-python llama-cpp-python

A format other than `file` is made of the model by llama.cpp itself. A round runs Nibble on the model as it is
(`nibble bench`) and llama.cpp on each format, in turn; medians of tokens per second are printed, and the ratios' span.
"""
import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = pathlib.Path(os.environ.get("NIBBLE_CACHE", pathlib.Path.home() / ".cache/nibble")) / "smollm2.gguf"
FILE_TYPES = {"q4_0": 2, "q8_0": 7}  # llama.cpp's llama_ftype
PREFILL, DECODE, REPEATS = 512, 64, 3


def quantize(model, kind, folder):
    import llama_cpp

    made = folder / f"{kind}.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.pure = FILE_TYPES[kind], True, True
    if llama_cpp.llama_model_quantize(str(model).encode(), str(made).encode(), ctypes.byref(params)) != 0:
        raise RuntimeError(f"llama.cpp did not make {kind}")
    return made


def run_llama_cpp(model, threads):
    """The child process: prints its tokens per second."""
    import llama_cpp

    llama = llama_cpp.Llama(model_path=str(model), n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=threads,
                            n_threads_batch=threads, flash_attn=True, verbose=False)
    tokens = [100 + i * 7919 % 40000 for i in range(PREFILL)]

    def timed(before, after):
        llama.reset()
        if before:
            llama.eval(before)
        start = time.perf_counter()
        for piece in after:
            llama.eval(piece)
        return sum(len(piece) for piece in after) / (time.perf_counter() - start)

    timed([], [tokens[:64]])
    print(json.dumps({"prefill": max(timed([], [tokens]) for _ in range(REPEATS)),
                      "decode": max(timed(tokens[:32], [[t] for t in tokens[:DECODE]]) for _ in range(REPEATS))}))


def measure_llama_cpp(model, threads):
    run = subprocess.run([sys.executable, __file__, "--child", model, "--threads", str(threads)],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return json.loads(run.stdout)


def measure_nibble(model, threads):
    run = subprocess.run([ROOT / "build/release/bin/nibble", "bench", "--model", model, "--depth", "0", "--batch", "1",
                          "--prefill", str(PREFILL), "--decode", str(DECODE), "--repeat", str(REPEATS), "--threads",
                          str(threads), "--json", "-"], stdout=subprocess.PIPE, text=True, check=True)
    return {row["kind"]: row["tokens_per_second"] for row in json.loads(run.stdout)["rows"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=MODEL)
    parser.add_argument("--formats", default="file,q4_0,q8_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return run_llama_cpp(args.child, args.threads)
    formats = args.formats.split(",")
    with tempfile.TemporaryDirectory() as folder:
        models = {f: args.model if f == "file" else quantize(args.model, f, pathlib.Path(folder)) for f in formats}
        rounds = []
        for _ in range(args.rounds):
            ours = measure_nibble(args.model, args.threads)
            rounds.append((ours, {f: measure_llama_cpp(models[f], args.threads) for f in formats}))
    for kind in ("prefill", "decode"):
        print(f"{kind}: nibble {statistics.median(ours[kind] for ours, _ in rounds):.1f} tokens/s")
        for f in formats:
            ratios = [ours[kind] / theirs[f][kind] for ours, theirs in rounds]
            print(f"  llama.cpp {f:5} {statistics.median(theirs[f][kind] for _, theirs in rounds):8.1f}   ratio "
                  f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
