#!/usr/bin/env python3
"""Nibble beside llama.cpp built for AVX-512 with VNNI: prefill and decode of one sequence, no server between.

usage: llama_cpp_native.py [--model F.gguf] [--formats file,q4_0,q8_0] [--threads 2] [--rounds 5] [--keep FOLDER]

The wheel of xllamacpp, which compare_llama_cpp.py meets, is built for AVX2. This needs a release build and llama.cpp's other
Python module, built from its source:

  CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON" \\
      pip install --no-binary llama-cpp-python llama-cpp-python

(With GGML_NATIVE on a machine with AMX, version 0.3.36 stopped at an illegal instruction.) A format other than `file` is made of
the model by llama.cpp, all of its matrices in that format; --keep leaves those files in a folder. A round runs Nibble on
the model as it is (`nibble bench`) and llama.cpp on each format, each the median of 3, whoever went last going first in the
next; medians of tokens per second and of the rounds' ratios are printed, and the span of those.
"""
import argparse
import ctypes
import json
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import compare_llama_cpp as compare
from kv_fidelity import run_json

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

    def speed(pieces):
        llama.reset()
        start = time.perf_counter()
        for piece in pieces:
            llama.eval(piece)
        return sum(map(len, pieces)) / (time.perf_counter() - start)

    workloads = {"prefill": [tokens], "decode": [[token] for token in tokens[:DECODE]]}
    speed([tokens[:64]])  # to warm up
    print(json.dumps({kind: statistics.median(speed(pieces) for _ in range(REPEATS))
                      for kind, pieces in workloads.items()}))


def measure_llama_cpp(model, threads):
    return run_json(sys.executable, __file__, "--child", model, "--threads", threads)


def measure_nibble(model, threads):
    rows = run_json(compare.daemons.BIN / "nibble", "bench", "--model", model, "--depth", 0, "--batch", 1, "--prefill",
                    PREFILL, "--decode", DECODE, "--repeat", REPEATS, "--threads", threads, "--json", "-")["rows"]
    return {row["kind"]: row["tokens_per_second"] for row in rows}


def run_rounds(args, folder):
    formats = args.formats.split(",")
    models = {f: args.model if f == "file" else quantize(args.model, f, folder) for f in formats}
    runs = [("nibble", lambda: measure_nibble(args.model, args.threads))]
    runs += [(f, lambda m=models[f]: measure_llama_cpp(m, args.threads)) for f in formats]
    rounds = []
    for _ in range(args.rounds):
        rounds.append({name: run() for name, run in runs})
        runs.reverse()
    return formats, rounds


def print_table(formats, rounds):
    for kind in ("prefill", "decode"):
        print(f"{kind}: nibble {statistics.median(r['nibble'][kind] for r in rounds):.1f} tokens/s")
        for f in formats:
            ratios = [r["nibble"][kind] / r[f][kind] for r in rounds]
            print(f"  llama.cpp {f:5} {statistics.median(r[f][kind] for r in rounds):8.1f}   ratio "
                  f"{statistics.median(ratios):.2f}   {min(ratios):.2f} to {max(ratios):.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=compare.daemons.MODEL)
    parser.add_argument("--formats", default="file,q4_0,q8_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("--child", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return run_llama_cpp(args.child, args.threads)
    busy = compare.busy_share()
    with tempfile.TemporaryDirectory() as folder:
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
        print_table(*run_rounds(args, args.keep or pathlib.Path(folder)))
    print(f"Before, other programs used {100 * busy:.0f} % of the CPUs; above 5 % the figures do not count.")


if __name__ == "__main__":
    main()
