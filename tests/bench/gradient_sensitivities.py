#!/usr/bin/env python3
"""What gradients of the loss would be worth to `nibble calibrate`, which weighs keys and values by a forward pass.

pip: torch numpy gguf safetensors

usage: gradient_sensitivities.py --calibration-text F.txt --text F.txt [--model smollm2] [--chunks 8] [--score-chunks 8]
                                 [--labels text|model] [--seed 0] [--threads 1] [--out DIR]

Calibrates klt2 and klt1 on the same chunks five times and scores each by `nibble eval` (context 2048, second half, f32
weights and activations) on the first chunks of --text; make the calibration text with kv_calibration_text.py, so that
it does not hold them:

  nibble               `nibble calibrate` itself
  forward              the same sensitivities (attention_sensitivity.h) out of torch, from all queries
  gradient             token t of a head weighs |g_t|^2, g the gradient of the loss by the key or value as it is read
                       sealed; metrics as above
  gradient of tokens   the same within a head; heads share bits as above
  gradient and metric  as `gradient`, and metrics are the sum of g g^T (Fisher)

The last four differ in nothing but weights and metrics: klt.h, rate_allocation.h and k-means written once more, with
fewer samples and iterations. The loss is the cross-entropy of the text, or, with --labels model, of tokens drawn from
the model's own distribution. Files stay in --out. Models: llama without rope factors. Prints a table in Markdown.
"""
import argparse
import collections
import heapq
import itertools
import math
import pathlib
import subprocess
import sys
import time

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors import safe_open
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import kv_calibration_text as texts
import kv_fidelity

CONTEXT = 2048
PAGE = 32
SPAN = 8 * PAGE
SINK_PAGES = WINDOW_PAGES = 1
CODECS = {"klt2": 2.0, "klt1": 1.0}
# Whose weights of a head's tokens, whose weights of heads, whose metrics.
WEIGHTINGS = {"forward": ("forward", "forward", "forward"), "gradient": ("gradient", "gradient", "forward"),
              "gradient of tokens": ("gradient", "forward", "forward"),
              "gradient and metric": ("gradient", "gradient", "gradient")}

SHRINKAGE = 0.05
GROUP_BITS, LEAST_BITS, GROUP_MOST = 8.0, 0.4, 16
ENTRIES, ITERATIONS, SEEDS_AT_ONCE = 64, 10, 16
SAMPLES, EVEN_SHARE = 8192, 0.25

Trace = collections.namedtuple("Trace", "queries keys values scores probabilities attended output")
Basis = collections.namedtuple("Basis", "mean variances analysis synthesis")


def turn(x, positions, frequencies):
    """RoPE of neighbouring pairs, as GGUF files of llama have them."""
    angles = positions.double()[:, None] * frequencies
    cosines, sines = angles.cos().float(), angles.sin().float()
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cosines - b * sines, a * sines + b * cosines), -1).flatten(-2)


class Llama:
    def __init__(self, path):
        reader = GGUFReader(path)
        config = {name.removeprefix("llama."): field.contents() for name, field in reader.fields.items()}
        self.weights = {t.name: torch.from_numpy(dequantize(t.data, t.tensor_type).copy()) for t in reader.tensors}
        if config["general.architecture"] != "llama" or "rope_freqs.weight" in self.weights:
            raise SystemExit("only llama without rope factors is handled")
        self.layers = config["block_count"]
        self.heads, self.kv_heads = config["attention.head_count"], config["attention.head_count_kv"]
        self.dim = config["embedding_length"] // self.heads
        self.scale = self.dim ** -0.5
        self.epsilon = config["attention.layer_norm_rms_epsilon"]
        self.frequencies = config["rope.freq_base"] ** (-torch.arange(0, self.dim, 2).double() / self.dim)
        self.positions = torch.arange(CONTEXT)
        self.hidden = torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).triu(1)

    def of(self, layer, name):
        return self.weights[f"blk.{layer}.{name}.weight"]

    def norm(self, x, gain):
        return x * (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt() * gain

    def project(self, x, layer, name):
        """[kv heads, query heads of each (1 of keys and values), tokens, dim]"""
        return (x @ self.of(layer, name).T).view(CONTEXT, self.kv_heads, -1, self.dim).permute(1, 2, 0, 3)

    def run_layer(self, layer, x):
        h = self.norm(x, self.of(layer, "attn_norm"))
        queries = turn(self.project(h, layer, "attn_q"), self.positions, self.frequencies)
        keys = turn(self.project(h, layer, "attn_k"), self.positions, self.frequencies)
        values = self.project(h, layer, "attn_v")
        scores = queries @ keys.mT * self.scale
        probabilities = scores.masked_fill(self.hidden, -math.inf).softmax(-1)
        attended = probabilities @ values
        x = x + attended.permute(2, 0, 1, 3).flatten(1) @ self.of(layer, "attn_output").T
        h = self.norm(x, self.of(layer, "ffn_norm"))
        gate, up = h @ self.of(layer, "ffn_gate").T, h @ self.of(layer, "ffn_up").T
        output = x + (torch.nn.functional.silu(gate) * up) @ self.of(layer, "ffn_down").T
        return Trace(queries, keys, values, scores, probabilities, attended, output)

    def logits(self, x):
        head = self.weights.get("output.weight", self.weights["token_embd.weight"])
        return self.norm(x, self.weights["output_norm.weight"]) @ head.T

    def streams(self, ids):
        """What each layer reads, and what the last one yields."""
        streams = [self.weights["token_embd.weight"][ids]]
        for layer in range(self.layers):
            streams.append(self.run_layer(layer, streams[-1]).output)
        return streams

    def gram(self, layer):
        """[kv heads, query heads of each, dim, dim]"""
        projection = self.of(layer, "attn_output")
        slices = projection.T.view(self.kv_heads, -1, self.dim, len(projection))
        return slices @ slices.mT

    def to_span(self, x, spans):
        return turn(x, -SPAN * spans, self.frequencies)


def sealed_mask():
    """Which tokens a query reads sealed, [queries, tokens]."""
    page = torch.arange(CONTEXT) // PAGE
    return (page[None] >= SINK_PAGES) & (page[None] < page[:, None] - WINDOW_PAGES)


def forward_sensitivity(model, layer, trace, stream, sealed):
    """Weights [kv heads, tokens] and metrics [kv heads, dim, dim] of keys and of values."""
    gram = model.gram(layer)
    shares = 1.0 / stream.square().sum(-1, keepdim=True)
    squares = (trace.probabilities * sealed).square() * shares
    crossing = trace.attended @ gram
    of_values, of_outputs = ((trace.values @ gram) * trace.values).sum(-1), (crossing * trace.attended).sum(-1)
    distances = of_values[..., None, :] + of_outputs[..., None] - 2.0 * crossing @ trace.values.mT
    moves = squares * distances.clamp(min=0) * model.scale ** 2
    key_weights = (moves * trace.queries.square().mean(-1, keepdim=True)).sum((1, 2))
    key_metric = torch.zeros(model.kv_heads, model.dim, model.dim)
    for span in range(CONTEXT // SPAN):
        weights = moves[..., span * SPAN:(span + 1) * SPAN].sum(-1, keepdim=True)
        turned = model.to_span(trace.queries, torch.full((CONTEXT,), span))
        key_metric += (turned.mT @ (turned * weights)).sum(1)
    reads = squares.sum(-2)
    value_weights = (reads * gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)).sum(1)
    value_metric = (gram * reads.sum(-1)[..., None, None]).sum(1)
    return (key_weights, value_weights), (key_metric, value_metric)


def gradient_sensitivity(model, trace, by_scores, by_attended, sealed):
    """The same, from gradients of the loss by what is read sealed."""
    by_keys = ((by_scores * sealed).mT @ trace.queries).sum(1) * model.scale
    by_values = ((trace.probabilities * sealed).mT @ by_attended).sum(1)
    gradients = (model.to_span(by_keys, model.positions // SPAN), by_values)
    return tuple(g.square().mean(-1) for g in gradients), tuple(g.mT @ g for g in gradients)


class Statistics:
    """Of every layer: keys (in the frame of their span) and values, their weights and metrics by each way."""

    def __init__(self, layers):
        self.vectors = [([], []) for _ in range(layers)]
        self.weights = {way: [([], []) for _ in range(layers)] for way in ("forward", "gradient")}
        self.metrics = {way: [[0.0, 0.0] for _ in range(layers)] for way in ("forward", "gradient")}

    def add(self, layer, vectors, ways):
        for kind in range(2):
            self.vectors[layer][kind].append(vectors[kind])
            for way, (weights, metrics) in ways.items():
                self.weights[way][layer][kind].append(weights[kind])
                self.metrics[way][layer][kind] = self.metrics[way][layer][kind] + metrics[kind].double()

    def heads(self, tokens_by, heads_by, metric_by):
        """(vectors, weights, metric) of one head after another: layer by layer, keys before values."""
        for layer, kind in itertools.product(range(len(self.vectors)), range(2)):
            vectors = torch.cat(self.vectors[layer][kind], 1)
            weights, totals = (torch.cat(self.weights[way][layer][kind], 1) for way in (tokens_by, heads_by))
            weights = weights * (totals.sum(1) / weights.sum(1))[:, None]
            yield from zip(vectors, weights, self.metrics[metric_by][layer][kind])


def loss_gradient(model, stream, ids, labels, generator):
    """Of the summed cross-entropy, by the stream that the last layer yields."""
    stream = stream.detach().requires_grad_()
    logits = model.logits(stream)
    targets = ids[1:]
    if labels == "model":
        targets = torch.multinomial(logits[:-1].detach().softmax(-1), 1, generator=generator)[:, 0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], targets, reduction="sum")
    return torch.autograd.grad(loss, stream)[0]


def add_chunk(model, ids, labels, generator, sealed, statistics):
    with torch.no_grad():
        streams = model.streams(ids)
    by_output = loss_gradient(model, streams[-1], ids, labels, generator)
    for layer in reversed(range(model.layers)):
        stream = streams[layer].requires_grad_()
        trace = model.run_layer(layer, stream)
        by_output, by_scores, by_attended = torch.autograd.grad(trace.output, (stream, trace.scores, trace.attended),
                                                                by_output)
        with torch.no_grad():
            trace = Trace(*(x.detach() for x in trace))
            vectors = (model.to_span(trace.keys[:, 0], model.positions // SPAN), trace.values[:, 0])
            ways = {"forward": forward_sensitivity(model, layer, trace, stream, sealed),
                    "gradient": gradient_sensitivity(model, trace, by_scores, by_attended, sealed)}
            statistics.add(layer, vectors, ways)


def collect(model, chunks, args):
    statistics, sealed = Statistics(model.layers), sealed_mask()
    generator = torch.Generator().manual_seed(args.seed)
    for i, ids in enumerate(chunks):
        start = time.monotonic()
        add_chunk(model, ids, args.labels, generator, sealed, statistics)
        print(f"chunk {i + 1} of {len(chunks)}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return statistics


def klt(vectors, weights, metric):
    vectors, weights = vectors.double(), weights.double()
    dim, total = vectors.shape[1], weights.sum()
    mean = weights @ vectors / total
    centred = vectors - mean
    covariance = centred.T @ (centred * weights[:, None]) / total
    metric = (1 - SHRINKAGE) * dim / metric.trace() * metric + SHRINKAGE * torch.eye(dim)
    levels, axes = torch.linalg.eigh(metric)
    root, inverse = axes * levels.sqrt() @ axes.T, axes / levels.sqrt() @ axes.T
    variances, basis = torch.linalg.eigh(root @ covariance @ root)
    variances, basis = (variances.clamp(min=0) * total).flip(0), basis.flip(1)
    return Basis(mean, variances.numpy(), basis.T @ root, inverse @ basis)


def water_fill(falling, bits):
    """Bits of each coefficient, and the distortion of all."""
    logs = np.log2(np.maximum(falling, 1e-300))
    levels = (np.cumsum(logs) - 2 * bits) / np.arange(1, len(logs) + 1)
    level = levels[np.append(logs[1:] <= levels[:-1], True).argmax()]
    rates = np.maximum(0.0, 0.5 * (logs - level))
    return rates, np.where(rates > 0, 2.0 ** level, falling).sum()


def allocate_groups(variances, total):
    groups = [1] * len(variances)
    gains = []

    def offer(head):
        if groups[head] < len(variances[head]):
            now, then = (water_fill(variances[head], GROUP_BITS * (groups[head] + more))[1] for more in (0, 1))
            heapq.heappush(gains, (then - now, head))

    for head in range(len(groups)):
        offer(head)
    for _ in range(total - len(groups)):
        head = heapq.heappop(gains)[1]
        groups[head] += 1
        offer(head)
    return groups


def group_coefficients(bits, groups):
    members = [[i] for i in range(groups)]  # bits fall: the first ones are the largest
    loads = list(bits[:groups])
    for i in range(groups, len(bits)):
        open_groups = [g for g in range(groups) if len(members[g]) < GROUP_MOST]
        if bits[i] <= LEAST_BITS or not open_groups:
            break
        least = min(open_groups, key=loads.__getitem__)
        members[least].append(i)
        loads[least] += bits[i]
    return members


def draw(vectors, weights):
    """About SAMPLES vectors, with probabilities that rise with their weights, and what each stands for."""
    draws = SAMPLES * ((1 - EVEN_SHARE) * weights.double() / weights.sum() + EVEN_SHARE / len(weights))
    times = draws.cumsum(0).floor().diff(prepend=torch.zeros(1, dtype=torch.double))
    kept = (times > 0) & (weights > 0)
    stands_for = (times * weights / draws)[kept].float()
    return vectors[kept], stands_for / stands_for.mean()


def nearest(samples, centroids):
    return torch.addmm(0.5 * centroids.square().sum(1), samples, centroids.T, alpha=-1).argmin(1)


def kmeans(samples, weights, generator):
    """Weighted, of a mirrored codebook: seeded as by k-means++ but sixteen at once, then Lloyd's iterations."""
    turns = torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]])[:, torch.arange(samples.shape[1]) % 2]

    def mirrored(centroids):
        return (turns[:, None] * centroids).flatten(0, 1)

    centroids, losses = samples[:0], torch.ones(len(samples))
    while len(centroids) < ENTRIES:
        drawn = torch.multinomial(weights * losses + 1e-20, SEEDS_AT_ONCE, generator=generator)
        distances = torch.cdist(samples, mirrored(samples[drawn])).square().min(1).values
        losses = distances if len(centroids) == 0 else torch.minimum(losses, distances)
        centroids = torch.cat((centroids, samples[drawn]))
    for _ in range(ITERATIONS):
        codes = nearest(samples, mirrored(centroids))
        weighted = torch.cat((samples * turns[codes // ENTRIES] * weights[:, None], weights[:, None]), 1)
        sums = torch.zeros(ENTRIES, weighted.shape[1]).index_add_(0, codes % ENTRIES, weighted)
        centroids = torch.where(sums[:, -1:] > 0, sums[:, :-1] / sums[:, -1:], centroids)
    return centroids


def head_code(basis, vectors, weights, groups, generator):
    """The tensors of one head, as calibration_file.h has them."""
    members = group_coefficients(water_fill(basis.variances, GROUP_BITS * groups)[0], groups)
    order = list(itertools.chain.from_iterable(members))
    analysis = basis.analysis[order].half()
    samples, stand_for = draw(vectors, weights)
    parts = ((samples - basis.mean.float()) @ analysis.float().T).split([len(m) for m in members], 1)
    centroids = torch.cat([kmeans(part.contiguous(), stand_for, generator) for part in parts], 1).T
    scales = centroids.abs().amax(1) / 127
    scales[scales == 0] = 1.0
    return {"mean": basis.mean.float(), "coefficients": torch.tensor([len(order)], dtype=torch.int32),
            "groups": torch.tensor([groups], dtype=torch.int32),
            "group_ends": torch.tensor(np.cumsum([len(m) for m in members]), dtype=torch.int32), "analysis": analysis,
            "synthesis": basis.synthesis[:, order].half().flatten(), "centroid_scale": scales,
            "centroids": (centroids / scales[:, None]).round().to(torch.int8)}


def design(heads, bases, bits, shape, seed):
    variances = [basis.variances for basis in bases]
    groups = allocate_groups(variances, int(bits * shape[-1] * len(bases) / GROUP_BITS))
    generator = torch.Generator().manual_seed(seed)
    codes = [head_code(basis, vectors, weights, count, generator)
             for basis, (vectors, weights, _), count in zip(bases, heads, groups)]
    columns = {name: torch.cat([code[name] for code in codes]) for name in codes[0]}
    shapes = {"mean": shape, "coefficients": shape[:-1], "groups": shape[:-1]}
    return columns | {name: columns[name].view(of) for name, of in shapes.items()}


def write_calibration(path, statistics, weighting, metadata, model, seed):
    heads = list(statistics.heads(*WEIGHTINGS[weighting]))
    bases = [klt(*head) for head in heads]
    tensors = {}
    for codec, bits in CODECS.items():
        columns = design(heads, bases, bits, (model.layers, 2, model.kv_heads, model.dim), seed)
        tensors |= {f"{codec}.{name}": column.contiguous() for name, column in columns.items()}
    save_file(tensors, path, metadata | {"method": weighting})


def calibrate_by_nibble(path, model_file, args):
    subprocess.run([texts.NIBBLE, "calibrate", "--model", model_file, "--text", args.calibration_text, "--out", path,
                    "--kv", ",".join(CODECS), "--chunks", str(args.chunks), "--context", str(CONTEXT), "--seed",
                    str(args.seed), "--threads", str(args.threads)], check=True, stdout=sys.stderr)
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def spread_chunks(model_file, args):
    """The chunks that `nibble calibrate` takes."""
    ids = kv_fidelity.run_json(texts.NIBBLE, "tokenize", "--model", model_file, "--file", args.calibration_text,
                               "--json", "-")["ids"]
    chunks = torch.tensor(ids[:len(ids) // CONTEXT * CONTEXT]).view(-1, CONTEXT)
    return [chunks[i * len(chunks) // args.chunks] for i in range(args.chunks)]


def score(weighting, calibration, model_file, args):
    rows = kv_fidelity.run_json(texts.NIBBLE, "eval", "--model", model_file, "--text", args.text, "--weights", "f32",
                                "--kv", ",".join(("f16", *CODECS)), "--kv-calibration", calibration, "--chunks",
                                args.score_chunks, "--threads", args.threads, "--json", "-")["rows"]
    kv_fidelity.print_rows(weighting, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration-text", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--score-chunks", type=int, default=8)
    parser.add_argument("--labels", choices=("text", "model"), default="text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gradient_sensitivities"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    model_file = kv_fidelity.model_path(args.model)
    print(f"Calibrated on {args.chunks} chunks, scored on {args.score_chunks}, of {CONTEXT} tokens; labels of the "
          f"{args.labels}.\n\n| weighting | codec | bits | perplexity | KL | top-1 |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    own = args.out / "nibble.nibblekv"
    metadata = calibrate_by_nibble(own, model_file, args)
    score("nibble", own, model_file, args)
    model = Llama(model_file)
    statistics = collect(model, spread_chunks(model_file, args), args)
    for weighting in WEIGHTINGS:
        path = args.out / f"{weighting.replace(' ', '_')}.nibblekv"
        write_calibration(path, statistics, weighting, metadata, model, args.seed)
        score(weighting, path, model_file, args)


if __name__ == "__main__":
    main()
