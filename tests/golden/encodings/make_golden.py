#!/usr/bin/env python3
"""Writes encodings.bin: random blocks of every encoding and what they decode to, by the reference implementation.

Needs: pip install gguf numpy. Run it in this folder; the output depends on nothing but the seed and `gguf`.
Layout, little-endian, per encoding: uint32 type id, uint32 bytes, uint32 elements, the bytes, the elements as float32.
"""
import struct

import gguf
import numpy as np

ENCODINGS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
# Where a block holds half floats: random bytes there would make NaNs.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208]}


def random_blocks(rng, encoding, count):
    _, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[encoding]]
    if encoding not in HALVES:
        floats = rng.standard_normal(count).astype(np.float32)
        if encoding == "F32":
            return floats.view(np.uint8).reshape(count, 4)
        if encoding == "F16":
            return floats.astype(np.float16).view(np.uint8).reshape(count, 2)
        return (floats.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(count, 2)
    blocks = rng.integers(0, 256, size=(count, block_bytes), dtype=np.uint8)
    for offset in HALVES[encoding]:
        # From denormal to large, both signs.
        scales = (rng.standard_normal(count) * 10.0 ** rng.uniform(-7, 3, count)).astype(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(count, 2)
    return blocks


def main():
    rng = np.random.default_rng(20261124)
    with open("encodings.bin", "wb") as out:
        for encoding in ENCODINGS:
            kind = gguf.GGMLQuantizationType[encoding]
            block_elements, _ = gguf.GGML_QUANT_SIZES[kind]
            blocks = random_blocks(rng, encoding, 4 if block_elements == 256 else 8 if block_elements == 32 else 64)
            data = blocks.reshape(-1)
            stored = data.view(np.float32) if encoding == "F32" else data.view(np.float16) if encoding == "F16" else data
            floats = gguf.quants.dequantize(stored, kind).astype(np.float32).reshape(-1)
            out.write(struct.pack("<III", kind.value, data.size, floats.size))
            out.write(data.tobytes() + floats.tobytes())


if __name__ == "__main__":
    main()
