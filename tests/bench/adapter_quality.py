#!/usr/bin/env python3
"""What a delta keeps of a real fine-tune: exact answers through the daemon, perplexity and KL, by way of making it.

usage: adapter_quality.py --finetune FOLDER [--base F] [--threads 2] [--examples N] [--json F]

FOLDER has `tuned` (the fine-tune as a Hugging Face folder) and examples that it was trained on and not, one JSON object of
`prompt` and `response` a line: train.jsonl and heldout.jsonl. Compresses the fine-tune in each way, serves all deltas from one
daemon on the base, and prints the share of held-out prompts that get exactly the right answer (greedy, as a chat), the
perplexity of the held-out text and the KL divergence to the fine-tune on it (`nibble delta verify`), and the size of the file.
The rows `base` and `fine-tune` are models of their own, served the same way. Fitted scales see 200 of the training examples.
"""
import argparse
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import compare_llama_cpp as compare

daemons = compare.daemons

FITTED_TO = 200
AT_ONCE = 8
# Whether the scales are fitted to the calibration text, and the flags beside it.
WAYS = {"mean": (False, ()), "mean by row": (False, ("--scales", "row")), "fitted": (True, ()),
        "fitted by row": (True, ("--scales", "row")), "fitted, 2 planes": (True, ("--planes", "2"))}


def examples(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def text_of(some):
    return "".join(f"{one['prompt']}\n{one['response']}\n\n" for one in some)


def nibble(*command):
    return subprocess.run([daemons.BIN / "nibble", *map(str, command)], check=True, stdout=subprocess.PIPE, text=True).stdout


def exact_share(daemon, heldout, adapter):
    """Of the held-out prompts: those whose answer is right to the letter."""
    def right(example):
        flags = ("--adapter", adapter) if adapter else ()
        return nibble("chat", "--server", daemon.ready["grpc"], *flags, "--max-tokens", 96, "--temperature", 0,
                      example["prompt"]).strip() == example["response"]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(right, heldout)) / len(heldout)


def served_share(args, heldout, model):
    daemon = daemons.Daemon("--threads", str(args.threads), model=model)
    try:
        return exact_share(daemon, heldout, None)
    finally:
        daemon.kill()


def compress(args, folder):
    """One delta for each way, in `folder`, by name."""
    calibration = folder / "calibration.txt"
    calibration.write_text(text_of(examples(args.finetune / "train.jsonl")[:FITTED_TO]))
    deltas = {}
    for way, (fitted, flags) in WAYS.items():
        flags = (*flags, "--calibration-text", calibration) if fitted else flags
        deltas[way] = folder / (re.sub(r"\W+", "-", way) + ".safetensors")
        nibble("delta", "compress", "--base", args.base, "--tuned", args.finetune / "tuned", "--out", deltas[way], "--threads",
               args.threads, *flags)
    return deltas


def fidelity(args, delta, text):
    """KL to the fine-tune, share of the same top token, perplexity and that of the fine-tune, over a text."""
    said = nibble("delta", "verify", "--base", args.base, "--adapter", delta, "--tuned", args.finetune / "tuned", "--text", text,
                  "--threads", args.threads)
    found = re.search(r"KL to the fine-tune (\S+), same top token (\S+), perplexity (\S+) \(its (\S+)\)", said)
    return dict(zip(("kl", "top1", "perplexity", "tuned_perplexity"), map(float, found.groups())))


def measure(args, folder):
    heldout = examples(args.finetune / "heldout.jsonl")[:args.examples]
    text = folder / "heldout.txt"
    text.write_text(text_of(heldout))
    deltas = compress(args, folder)
    weights = (args.finetune / "tuned" / "model.safetensors").stat().st_size
    rows = {"base": {"exact": served_share(args, heldout, args.base)},
            "fine-tune": {"exact": served_share(args, heldout, args.finetune / "tuned")}}
    daemon = daemons.Daemon("--threads", str(args.threads), "--adapters", folder, model=args.base)
    try:
        for way, delta in deltas.items():
            rows[way] = {"exact": exact_share(daemon, heldout, delta.stem), **fidelity(args, delta, text),
                         "of_checkpoint": delta.stat().st_size / weights}
            print(f"{way}: {rows[way]}", file=sys.stderr)
    finally:
        daemon.kill()
    return rows


def report(rows):
    tuned = next(row["tuned_perplexity"] for row in rows.values() if "kl" in row)
    print("| served | exact | KL | same top token | perplexity | of the checkpoint |")
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        if "kl" in row:
            rest = f"{row['kl']:.4f} | {row['top1']:.4f} | {row['perplexity']:.3f} | {row['of_checkpoint']:.1%}"
        else:
            rest = f"| | {tuned:.3f} |" if name == "fine-tune" else "| | |"
        print(f"| {name} | {row['exact']:.1%} | {rest} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finetune", type=pathlib.Path, required=True)
    parser.add_argument("--base", type=pathlib.Path, default=daemons.MODEL)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(args, pathlib.Path(folder))
    report(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
