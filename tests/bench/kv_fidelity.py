#!/usr/bin/env python3
"""What each KV codec costs a model: perplexity, KL divergence and top-1 agreement against an f16 cache.

usage: kv_fidelity.py --text F.txt [--models smollm2,…] [--codecs int8,int4,…] [--chunks 8] [--cache DIR] [--llama-cpp]

For each model (a name of deploy/fetch_model.py or a GGUF file): a calibration text (kv_calibration_text.py; the first
160 KB of --text are only scored), `nibble calibrate`, then `nibble eval` at context 2048, second half scored, f32 weights
and activations, on --text, on source code, and on German prose (--german F; without it that column is left out). The
calibration stays in --cache. --llama-cpp adds llama.cpp's own cache types on the same text (pip: xllamacpp numpy).
Prints a table in Markdown.
"""
import argparse
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import kv_calibration_text as texts

ROOT = texts.ROOT
CODECS = ("int8", "int4", "kivi4", "kivi2", "cq2", "cq1", "klt3", "klt2", "klt1")
LLAMA_CPP_TYPES = ("f16", "q8_0", "q5_1", "q4_0")


def run_json(*command):
    return json.loads(subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=True).stdout)


def model_path(name):
    if pathlib.Path(name).is_file():
        return pathlib.Path(name)
    fetched = subprocess.run([ROOT / "deploy/fetch_model.py", name], stdout=subprocess.PIPE, text=True, check=True)
    return pathlib.Path(fetched.stdout.split()[-1])


def calibrate(model, args):
    out = args.cache / f"{model.stem}.nibblekv"
    if not out.exists():
        mixture = args.cache / f"{model.stem}.txt"
        mixture.write_text(texts.calibration_text(model, args.text, 160000), encoding="utf-8")
        subprocess.run([texts.NIBBLE, "calibrate", "--model", model, "--text", mixture, "--out", out], check=True,
                       stdout=sys.stderr)
    return out


def evaluate(model, calibration, text, codecs, chunks):
    return run_json(texts.NIBBLE, "eval", "--model", model, "--text", text, "--weights", "f32", "--kv",
                    ",".join(("f16",) + tuple(codecs)), "--kv-calibration", calibration, "--chunks", chunks, "--json",
                    "-")["rows"]


def print_rows(title, rows):
    base = rows[0]["ppl"]
    for row in rows[1:]:
        print(f"| {title} | `{row['kv']}` | {row['kv_bits']:.2f} | {100 * (row['ppl'] / base - 1):+.2f} % | "
              f"{row['kld']:.5f} | {100 * row['top1']:.1f} |", flush=True)


def print_llama_cpp(model, args):
    script = pathlib.Path(__file__).parent / "llama_cpp_perplexity.py"
    ppl = {kv: run_json(sys.executable, script, "--model", model, "--text", args.text, "--chunks", args.chunks, "--kv",
                        kv)["ppl"] for kv in LLAMA_CPP_TYPES}
    for kv in LLAMA_CPP_TYPES[1:]:
        print(f"| {model.stem}, llama.cpp | `{kv}` | | {100 * (ppl[kv] / ppl['f16'] - 1):+.2f} % | | |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--german")
    parser.add_argument("--models", default="smollm2,qwen2.5-coder-0.5b,gemma3-270m")
    parser.add_argument("--codecs", default=",".join(CODECS))
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("kv_fidelity"))
    parser.add_argument("--llama-cpp", action="store_true")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    code = args.cache / "code.txt"
    code.write_text(texts.modules(scored=True), encoding="utf-8")
    print("| model, text | codec | bits | perplexity | KL | top-1 |\n|---|---|---|---|---|---|", flush=True)
    for name in args.models.split(","):
        model = model_path(name)
        calibration = calibrate(model, args)
        print_rows(model.stem, evaluate(model, calibration, args.text, args.codecs.split(","), args.chunks))
        coupled = [c for c in args.codecs.split(",") if c.startswith("klt")]
        print_rows(f"{model.stem}, code", evaluate(model, calibration, code, coupled, args.chunks))
        if args.german:
            print_rows(f"{model.stem}, German", evaluate(model, calibration, args.german, coupled, args.chunks))
        if args.llama_cpp:
            print_llama_cpp(model, args)


if __name__ == "__main__":
    main()
