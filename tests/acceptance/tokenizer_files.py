#!/usr/bin/env python3
"""Does the tokenizer that a gateway takes from a worker (GetTokenizer) cut texts as the worker itself does?

`nibble tokenize` says how the worker cuts a text; a first token that it adds (bos) is left out of the comparison.
"""
import argparse
import io
import json
import pathlib
import subprocess
import zipfile

import grpc
from smg_grpc_proto import vllm_engine_pb2_grpc
from smg_grpc_proto.generated import common_pb2
from tokenizers import Tokenizer

from verdict import Verdict, add_tls, channel

TEXTS = (
    "The quick brown fox jumps over 12 lazy dogs; it's 3.14159, isn't it?  Two  spaces,\ttabs\n\n\nand lines.",
    "Ünïcödé, 日本語のテキスト, русский язык, ελληνικά, العربية, x²³, ﬀ ĳ, 😀👍🏽 and a\u00a0no-break space \r\n",
    "def f(x):\n    if x == 0x1F:  # sixteen\n        return [y**2 for y in range(100_000)]\n\treturn None\n",
    "  leading and trailing  ",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("--model", required=True, help="not sent; the other scripts take it too")
    parser.add_argument("--model-file", required=True)
    parser.add_argument("--nibble", required=True, help="the `nibble` command")
    parser.add_argument("-v", "--verbose", action="store_true")
    add_tls(parser)
    args = parser.parse_args()
    v = Verdict(f"tokenizer_files {args.address}", args.verbose)
    engine = vllm_engine_pb2_grpc.VllmEngineStub(channel(args.address, args))
    chunks = engine.GetTokenizer(common_pb2.GetTokenizerRequest(), timeout=120)
    files = zipfile.ZipFile(io.BytesIO(b"".join(chunk.data for chunk in chunks)))
    tokenizer = Tokenizer.from_str(files.read("tokenizer.json").decode())
    for text in TEXTS:
        said = subprocess.run([args.nibble, "tokenize", "--model", args.model_file, "--text", text, "--json", "-"],
                              stdout=subprocess.PIPE, text=True, check=True)
        theirs = json.loads(said.stdout)["ids"]
        ours = tokenizer.encode(text, add_special_tokens=False).ids
        v.check(f"{text[:20]!r} is cut alike", ours == theirs[-len(ours):] and len(theirs) - len(ours) in (0, 1),
                f"{ours} {theirs}")
        v.check(f"{text[:20]!r} comes back", tokenizer.decode(ours) == text, tokenizer.decode(ours))
    v.exit()


if __name__ == "__main__":
    main()
