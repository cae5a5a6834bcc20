#!/usr/bin/env python3
"""Makes the golden logits: tiny seeded models as GGUF files, and the logits an independent implementation gives.

pip: torch transformers gguf numpy

  make_golden.py tiny            tiny-*.gguf and tiny-*.txt for every architecture
  make_golden.py real [NAME…]    NAME.txt for the models in ${NIBBLE_CACHE:-~/.cache/nibble}

The expected logits are those of `transformers` in float32 with eager attention, on the weights as the file's encodings
give them back; keys and values stay in float32, so the engine is compared with its f32 KV codec. (Rounding keys and
values to half precision moves logits by up to 0.02.) tests/bench/llama_cpp_perplexity.py --golden compares llama.cpp's
logits with these files. A golden file is text: a line `tokens ID…`, then for each checked position a line `position P` followed by
lines `ID LOGIT`.
"""
import os
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
VOCAB = 288
HIDDEN = 64
INTERMEDIATE = 96
HEADS = 4
PROMPT_TOKENS = 80
POSITIONS = [0, 1, 31, 32, 47, 48, 79]
TEXT = (
    "The lighthouse keeper wrote down the weather every evening: wind from the north-west, 12 knots, a falling "
    "barometer. In 1893 he noticed that the gulls left before the storms did, and so he began to count them as well. "
    "Nobody asked him why; the ledger simply grew a second column, and then a third"
)
Q = gguf.GGMLQuantizationType

# One row per tiny model: the file's architecture, its shape, and the encoding of its matrices by part of the name.
TINY = {
    "tiny-llama-f32": dict(arch="llama", layers=2, kv_heads=2, head_dim=16, theta=10000.0, eps=1e-5, tied=True, types={"": Q.F32}),
    "tiny-llama-quantized": dict(arch="llama", layers=2, kv_heads=2, head_dim=16, theta=100000.0, eps=1e-5, tied=True,
                                 types={"token_embd": Q.Q8_0, "attn_q": Q.Q4_0, "attn_k": Q.Q5_0, "attn_v": Q.Q8_0,
                                        "attn_output": Q.Q5_1, "ffn_down": Q.Q8_0, "": Q.Q4_1}),
    "tiny-mistral-f16": dict(arch="llama", hf="mistral", layers=2, kv_heads=1, head_dim=32, theta=1e6, eps=1e-5,
                             tied=True, pre="llama-bpe", types={"": Q.F16}),
    "tiny-qwen2-bf16": dict(arch="qwen2", layers=2, kv_heads=2, head_dim=16, theta=1e6, eps=1e-6, tied=True, pre="qwen2",
                            types={"": Q.BF16}),
    "tiny-qwen3-f16": dict(arch="qwen3", layers=2, kv_heads=2, head_dim=32, theta=1e6, eps=1e-6, pre="qwen2",
                           types={"": Q.F16}),
    # Seven layers: the sixth is global, the others see 48 tokens. Linear scaling of the global rotation, and both caps.
    "tiny-gemma3-q8_0": dict(arch="gemma3", layers=7, kv_heads=1, head_dim=32, theta=1e6, eps=1e-6, tied=True, window=48,
                             rope_factor=4.0, final_cap=8.0, intermediate=64, types={"": Q.Q8_0}),
}


# ---- shapes ----------------------------------------------------------------------------------------------------------

def tiny_config(m):
    common = dict(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=m.get("intermediate", INTERMEDIATE),
        num_hidden_layers=m["layers"], num_attention_heads=HEADS, num_key_value_heads=m["kv_heads"],
        head_dim=m["head_dim"], rms_norm_eps=m["eps"], tie_word_embeddings=m.get("tied", False),
        max_position_embeddings=512)
    return make_config(m.get("hf", m["arch"]), common, m["theta"], m.get("window", 0), m.get("rope_factor", 1.0),
                       m.get("final_cap"))


def make_config(kind, common, theta, window=0, rope_factor=1.0, final_cap=None):
    rope = {"rope_type": "default", "rope_theta": theta}
    if kind == "llama":
        return transformers.LlamaConfig(rope_parameters=rope, **common)
    if kind == "mistral":
        return transformers.MistralConfig(rope_parameters=rope, sliding_window=None, **common)
    if kind == "qwen2":
        common = dict(common)
        assert common.pop("head_dim") * common["num_attention_heads"] == common["hidden_size"]
        return transformers.Qwen2Config(rope_parameters=rope, use_sliding_window=False, **common)
    if kind == "qwen3":
        return transformers.Qwen3Config(rope_parameters=rope, use_sliding_window=False, attention_bias=False, **common)
    if kind == "gemma3":
        if rope_factor != 1.0:
            rope = {"rope_type": "linear", "rope_theta": theta, "factor": rope_factor}
        local = {"rope_type": "default", "rope_theta": 10000.0}
        return transformers.Gemma3TextConfig(
            rope_parameters={"full_attention": rope, "sliding_attention": local}, sliding_window=window,
            query_pre_attn_scalar=common["head_dim"], final_logit_softcapping=final_cap, attn_logit_softcapping=None,
            layer_types=["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(common["num_hidden_layers"])],
            **common)
    raise SystemExit(f"no architecture {kind}")


def make_model(config):
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


# ---- names and layouts of tensors ------------------------------------------------------------------------------------

LAYER_NAMES = {
    "self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight", "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_proj.bias": "attn_q.bias", "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias", "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight", "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight", "mlp.down_proj.weight": "ffn_down.weight",
    "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "ffn_norm.weight",
}
GEMMA_LAYER_NAMES = LAYER_NAMES | {
    "post_attention_layernorm.weight": "post_attention_norm.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight", "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
}
GLOBAL_NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                "lm_head.weight": "output.weight"}


def file_name(arch, name):
    if name in GLOBAL_NAMES:
        return GLOBAL_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}." + (GEMMA_LAYER_NAMES if arch == "gemma3" else LAYER_NAMES)[rest]


def is_rotated(arch, name):
    return arch == "llama" and (name.endswith("attn_q.weight") or name.endswith("attn_k.weight"))


def interleave(rows, heads):
    """Rows of a head from (first half, second half) to (pairs), as llama files keep them."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def deinterleave(rows, heads):
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def head_count(config, name):
    return config.num_key_value_heads if "attn_k" in name else config.num_attention_heads


def norm_offset(arch, name):
    return 1.0 if arch == "gemma3" and name.endswith("norm.weight") else 0.0


# ---- tiny models -----------------------------------------------------------------------------------------------------

def random_parameter(name, shape, tied, rng):
    """Scales that make attention peaked and the logits spread by about two."""
    if name.endswith("norm.weight"):
        return 1.0 + 0.2 * rng.standard_normal(shape)
    if name.endswith("bias"):
        return 0.5 * rng.standard_normal(shape)
    if "embed_tokens" in name:
        return (2.0 / np.sqrt(shape[1]) if tied else 1.0) * rng.standard_normal(shape)
    gain = 2.0 if "lm_head" in name else 1.4 if "q_proj" in name or "k_proj" in name else 1.0
    return gain / np.sqrt(shape[1]) * rng.standard_normal(shape)


def encode(values, qtype):
    if qtype == Q.F32:
        return values
    return gguf.quants.quantize(values, qtype)


def decode(data, qtype):
    if qtype == Q.F32:
        return np.asarray(data, dtype=np.float32)
    return gguf.quants.dequantize(data, qtype).astype(np.float32)


def qtype_of(types, name):
    if name.endswith("norm.weight") or name.endswith("bias"):
        return Q.F32
    return next(qtype for part, qtype in types.items() if part in name)


def add_byte_level_tokenizer(writer, pre):
    """All bytes, a few merges, three control tokens."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    merges = ["Ġ t", "h e", "Ġt he", "Ġ a", "i n", "e r", "Ġ w", "o n", "Ġ s", "r e", "n d", "a t", "Ġa nd", "o u", "e s",
              "Ġ o", "Ġ c", "i t", "Ġ f", "i s", "in g", "Ġ b", "e n", "o r", "Ġ h", "e d", "Ġ m", "a n", "Ġo f"]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [letters[b] for b in range(256)]
    tokens += [merge.replace(" ", "") for merge in merges]
    assert len(tokens) == VOCAB and len(set(tokens)) == VOCAB
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([control] * 3 + [normal] * (VOCAB - 3))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)


def add_sentencepiece_tokenizer(writer):
    """Four special tokens, all bytes as fallback, a few pieces."""
    pieces = ["▁", "e", "t", "a", "o", "i", "n", "s", "r", "h", "▁t", "he", "▁the", "▁a", "in", "er", "▁w", "on", "▁s", "re",
              "nd", "at", "▁and", "ou", "es", "▁o", "d", "l"]
    kinds = gguf.TokenType
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{b:02X}>" for b in range(256)] + pieces)
    writer.add_token_scores([0.0] * 260 + [-float(i) for i in range(len(pieces))])
    writer.add_token_types([kinds.CONTROL] * 3 + [kinds.UNKNOWN] + [kinds.BYTE] * 256 + [kinds.NORMAL] * len(pieces))
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def add_shape(writer, m, config):
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(m["head_dim"])
    writer.add_value_length(m["head_dim"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(m["theta"])
    if m["arch"] == "llama":
        writer.add_rope_dimension_count(m["head_dim"])
        writer.add_vocab_size(VOCAB)
    if m.get("window"):
        writer.add_sliding_window(m["window"])
    if m.get("rope_factor", 1.0) != 1.0:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(m["rope_factor"])
    if m.get("final_cap"):
        writer.add_final_logit_softcapping(m["final_cap"])


def make_tiny(name):
    m = TINY[name]
    arch = m["arch"]
    rng = np.random.default_rng(sum(name.encode()))
    config = tiny_config(m)
    model = make_model(config)
    writer = gguf.GGUFWriter(str(HERE / f"{name}.gguf"), arch)
    writer.add_name(name)
    add_shape(writer, m, config)
    if arch == "gemma3":
        add_sentencepiece_tokenizer(writer)
    else:
        add_byte_level_tokenizer(writer, m.get("pre", "smollm"))
    with torch.no_grad():
        for hf_name, parameter in model.named_parameters():
            target = file_name(arch, hf_name)
            values = random_parameter(hf_name, tuple(parameter.shape), m.get("tied", False), rng).astype(np.float32)
            qtype = qtype_of(m["types"], target)
            rotated = is_rotated(arch, target)
            data = encode(interleave(values, head_count(config, target)) if rotated else values, qtype)
            writer.add_tensor(target, data, raw_dtype=qtype)
            values = decode(data, qtype)
            if rotated:
                values = deinterleave(values, head_count(config, target))
            parameter.copy_(torch.from_numpy(values - np.float32(norm_offset(arch, target))))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tokens = [int(t) for t in rng.integers(3 if arch != "gemma3" else 4, VOCAB, PROMPT_TOKENS)]
    logits = logits_of(model, tokens)
    write_golden(name, tokens, {p: {i: logits[p, i] for i in range(VOCAB)} for p in POSITIONS})
    print(name, f"std {logits.std():.2f}", f"{(HERE / (name + '.gguf')).stat().st_size} bytes")


# ---- real models -----------------------------------------------------------------------------------------------------

def field(reader, key, default=None):
    found = reader.get_field(key)
    return default if found is None else found.contents()


def real_config(reader, arch):
    heads = field(reader, f"{arch}.attention.head_count")
    hidden = field(reader, f"{arch}.embedding_length")
    tensors = {t.name: t for t in reader.tensors}
    common = dict(
        vocab_size=int(tensors["token_embd.weight"].shape[1]), hidden_size=hidden,
        intermediate_size=field(reader, f"{arch}.feed_forward_length"),
        num_hidden_layers=field(reader, f"{arch}.block_count"), num_attention_heads=heads,
        num_key_value_heads=field(reader, f"{arch}.attention.head_count_kv"),
        head_dim=field(reader, f"{arch}.attention.key_length", hidden // heads),
        rms_norm_eps=field(reader, f"{arch}.attention.layer_norm_rms_epsilon"),
        tie_word_embeddings="output.weight" not in tensors,
        max_position_embeddings=field(reader, f"{arch}.context_length"))
    return make_config(arch, common, field(reader, f"{arch}.rope.freq_base"),
                       field(reader, f"{arch}.attention.sliding_window", 0))


def load_real(path):
    reader = gguf.GGUFReader(path)
    arch = field(reader, "general.architecture")
    config = real_config(reader, arch)
    model = make_model(config)
    tensors = {t.name: t for t in reader.tensors}
    with torch.no_grad():
        for hf_name, parameter in model.named_parameters():
            target = file_name(arch, hf_name)
            values = decode(tensors[target].data, tensors[target].tensor_type).reshape(parameter.shape)
            if is_rotated(arch, target):
                values = deinterleave(values, head_count(config, target))
            parameter.copy_(torch.from_numpy(values - np.float32(norm_offset(arch, target))))
    return reader, model


def real_tokens(reader):
    """A prompt in the file's own vocabulary: its longest match at each place. Any ids would do; these read as text."""
    space = "▁" if field(reader, "tokenizer.ggml.model") == "llama" else "Ġ"
    ids = {token: i for i, token in enumerate(field(reader, "tokenizer.ggml.tokens"))}
    text = TEXT.replace(" ", space)
    tokens = [field(reader, "tokenizer.ggml.bos_token_id")] if field(reader, "tokenizer.ggml.add_bos_token") else []
    while text:
        length = next(n for n in range(min(24, len(text)), 0, -1) if text[:n] in ids)
        tokens.append(ids[text[:length]])
        text = text[length:]
    return tokens[:60]


def make_real(name):
    cache = pathlib.Path(os.environ.get("NIBBLE_CACHE", pathlib.Path.home() / ".cache" / "nibble"))
    reader, model = load_real(cache / f"{name}.gguf")
    tokens = real_tokens(reader)
    logits = logits_of(model, tokens)
    nll = torch.nn.functional.cross_entropy(torch.from_numpy(logits[:-1]), torch.tensor(tokens[1:])).item()
    positions = [0, 31, len(tokens) - 1]
    stride = 97 * max(1, round(logits.shape[1] / 50000))
    chosen = {p: np.union1d(np.argsort(-logits[p])[:50], np.arange(0, logits.shape[1], stride)) for p in positions}
    write_golden(name, tokens, {p: {int(i): logits[p, i] for i in ids} for p, ids in chosen.items()})
    print(name, len(tokens), "tokens; perplexity of the prompt", f"{np.exp(nll):.2f}")


# ---- both ------------------------------------------------------------------------------------------------------------

def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].float().numpy()


def write_golden(name, tokens, positions):
    lines = ["tokens " + " ".join(map(str, tokens))]
    for position, values in positions.items():
        lines.append(f"position {position}")
        lines += [f"{i} {value:.7g}" for i, value in values.items()]
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in ("tiny", "real"):
        raise SystemExit(__doc__)
    torch.manual_seed(0)
    if sys.argv[1] == "tiny":
        for name in sys.argv[2:] or TINY:
            make_tiny(name)
    else:
        for name in sys.argv[2:] or ("smollm2", "qwen2.5-coder-0.5b", "gemma3-270m"):
            make_real(name)


if __name__ == "__main__":
    main()
