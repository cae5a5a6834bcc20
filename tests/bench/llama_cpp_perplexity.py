#!/usr/bin/env python3
"""Perplexity as llama.cpp computes it, to compare with `nibble eval` on the same file, text and rule.

pip: xllamacpp numpy

  llama_cpp_perplexity.py --model F.gguf --text F.txt [--context 2048] [--chunks 8] [--all] [--threads 2] [--kv f16]
  llama_cpp_perplexity.py --model F.gguf --golden F.txt     # compares llama.cpp's logits with a file of make_golden.py

The rule is that of llama.cpp's perplexity tool: the whole text is tokenized at once; non-overlapping chunks of --context
tokens, each run from an empty cache with its first token replaced by BOS where the model adds one; the logits at
positions context/2 … context-2 are scored against the tokens that follow them. --kv: the type of llama.cpp's cache.

The wheel of xllamacpp exports llama.cpp's C interface; this script calls it directly. Parameter structs travel by value
and are shorter than PARAMETER_BYTES; only their leading fields and the types of the cache are touched.
"""
import argparse
import ctypes
import glob
import importlib.util
import json
import math
import pathlib

import numpy as np

PARAMETER_BYTES = 512
KV_TYPES = {"f16": 1, "q4_0": 2, "q5_1": 7, "q8_0": 8}
KV_TYPE_WORDS = (26, 27)  # where the parameters of a context say the types of keys and values, in 32-bit words


class Parameters(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint32 * (PARAMETER_BYTES // 4))]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


@LogCallback
def silent(level, text, data):
    pass


def load_library():
    folder = pathlib.Path(importlib.util.find_spec("xllamacpp").origin).parent
    lib = ctypes.CDLL(glob.glob(str(folder / "xllamacpp*.so"))[0])
    pointer, integer = ctypes.c_void_p, ctypes.c_int32
    for name, result, arguments in (
            ("llama_backend_init", None, []), ("llama_log_set", None, [LogCallback, pointer]),
            ("llama_model_default_params", Parameters, []), ("llama_context_default_params", Parameters, []),
            ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Parameters]),
            ("llama_init_from_model", pointer, [pointer, Parameters]),
            ("llama_set_n_threads", None, [pointer, integer, integer]),
            ("llama_model_get_vocab", pointer, [pointer]), ("llama_vocab_n_tokens", integer, [pointer]),
            ("llama_vocab_get_add_bos", ctypes.c_bool, [pointer]), ("llama_vocab_bos", integer, [pointer]),
            ("llama_tokenize", integer, [pointer, ctypes.c_char_p, integer, ctypes.POINTER(integer), integer,
                                         ctypes.c_bool, ctypes.c_bool]),
            ("llama_get_memory", pointer, [pointer]), ("llama_memory_clear", None, [pointer, ctypes.c_bool]),
            ("llama_batch_init", Batch, [integer, integer, integer]), ("llama_batch_free", None, [Batch]),
            ("llama_decode", integer, [pointer, Batch]),
            ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [pointer])):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


lib = load_library()


def open_model(path, context, threads, kv="f16"):
    lib.llama_backend_init()
    lib.llama_log_set(silent, None)
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    if not model:
        raise SystemExit(f"cannot load {path}")
    params = lib.llama_context_default_params()
    params.words[:3] = [context, context, min(512, context)]  # n_ctx, n_batch, n_ubatch
    for word in KV_TYPE_WORDS:
        if params.words[word] != KV_TYPES["f16"]:
            raise SystemExit("this build of llama.cpp keeps the types of its cache elsewhere")
        params.words[word] = KV_TYPES[kv]
    ctx = lib.llama_init_from_model(model, params)
    lib.llama_set_n_threads(ctx, threads, threads)
    return model, ctx


def tokenize(vocab, text):
    data = text.encode()
    out = (ctypes.c_int32 * (len(data) + 8))()
    return out[: lib.llama_tokenize(vocab, data, len(data), out, len(out), True, False)]


def logits_of(ctx, vocab_size, tokens, first):
    """Logits of positions >= first, [positions, vocabulary]."""
    lib.llama_memory_clear(lib.llama_get_memory(ctx), True)
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
        batch.seq_id[i][0] = 0
        batch.logits[i] = 1 if i >= first else 0
    if lib.llama_decode(ctx, batch) != 0:
        raise SystemExit("llama_decode failed")
    lib.llama_batch_free(batch)
    return np.ctypeslib.as_array(lib.llama_get_logits(ctx), shape=(len(tokens) - first, vocab_size))


def perplexity(args):
    model, ctx = open_model(args.model, args.context, args.threads, args.kv)
    vocab = lib.llama_model_get_vocab(model)
    vocab_size = lib.llama_vocab_n_tokens(vocab)
    ids = tokenize(vocab, open(args.text, encoding="utf-8").read())
    first = 0 if args.all else args.context // 2
    total, scored = 0.0, 0
    chunks = min(args.chunks, len(ids) // args.context)
    for c in range(chunks):
        chunk = ids[c * args.context : (c + 1) * args.context]
        if lib.llama_vocab_get_add_bos(vocab):
            chunk[0] = lib.llama_vocab_bos(vocab)
        logits = logits_of(ctx, vocab_size, chunk, first)[:-1]
        targets = chunk[first + 1 :]
        for row, target in zip(logits, targets):
            row = row.astype(np.float64)
            total -= row[target] - row.max() - math.log(np.exp(row - row.max()).sum())
        scored += len(targets)
    print(json.dumps({"model": args.model, "ppl": math.exp(total / scored), "tokens": scored, "chunks": chunks}))


def compare_golden(args):
    model, ctx = open_model(args.model, 512, args.threads)
    vocab_size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    lines = open(args.golden).read().split("\n")
    tokens = [int(t) for t in lines[0].split()[1:]]
    logits = logits_of(ctx, vocab_size, tokens, 0)
    worst, position = 0.0, 0
    for line in lines[1:]:
        words = line.split()
        if words and words[0] == "position":
            position = int(words[1])
        elif words:
            worst = max(worst, abs(float(words[1]) - float(logits[position, int(words[0])])))
    print(json.dumps({"model": args.model, "largest_difference": worst, "std": float(logits.std())}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--text")
    parser.add_argument("--golden")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--kv", choices=KV_TYPES, default="f16")
    args = parser.parse_args()
    if args.golden:
        compare_golden(args)
    elif args.text:
        perplexity(args)
    else:
        parser.error("--text or --golden is needed")


if __name__ == "__main__":
    main()
