#!/usr/bin/env python3
"""Compares runs of nibble-loadtest, with intervals, and fails on a regression.

usage: compare.py BASE.jsonl OTHER.jsonl [OTHER.jsonl …] [--bound 0.05]

Files are those of `nibble-loadtest --requests-jsonl`, the first the one that the others are compared with. Prints, for each
figure, its value in both and their ratio with a 95 % bootstrap interval. Latencies are resampled request by request. The
throughput is resampled in twenty equal stretches of each run's time, for requests of one run are not independent in it.
Exit status 1 where some ratio is worse than --bound even at its interval's better end (5 % slower by default); 2 for a file
that is not such a run.
"""
import argparse
import json
import random
import sys

RESAMPLES = 400
STRETCHES = 20


class NotARun(Exception):
    pass


def read_run(path):
    """The completed requests of a run."""
    requests = []
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    request = json.loads(line)
                    if request["outcome"] == "completed" and request["output_tokens"] > 0:
                        requests.append({key: request[key] for key in
                                         ("scheduled_ms", "output_tokens", "ttft_ms", "e2el_ms", "itl_ms")})
                except (ValueError, KeyError, TypeError) as error:
                    raise NotARun(f"{path}:{number}: not a line of --requests-jsonl ({error!r})") from error
    except OSError as error:
        raise NotARun(f"{path}: {error.strerror}") from error
    if not requests:
        raise NotARun(f"{path}: has no completed request")
    return requests


def percentile(values, share):
    """Between the two nearest values, as the harness has it."""
    values = sorted(values)
    rank = share * (len(values) - 1)
    below = int(rank)
    above = min(below + 1, len(values) - 1)
    return values[below] + (rank - below) * (values[above] - values[below])


def stretches(requests):
    """Output tokens per second in each stretch of the run. Tokens of one message count as evenly spread over all messages."""
    start = min(r["scheduled_ms"] for r in requests)
    end = max(r["scheduled_ms"] + r["e2el_ms"] for r in requests)
    width = max(end - start, 1e-9) / STRETCHES
    tokens = [0.0] * STRETCHES
    for r in requests:
        at = r["scheduled_ms"] + r["ttft_ms"]
        for gap in [0.0, *r["itl_ms"]]:
            at += gap
            tokens[min(int((at - start) / width), STRETCHES - 1)] += r["output_tokens"] / (1 + len(r["itl_ms"]))
    return [1000 * count / width for count in tokens]


def latencies(name):
    return lambda requests: [r[name] for r in requests]


def tpot(requests):
    return [(r["e2el_ms"] - r["ttft_ms"]) / (r["output_tokens"] - 1) for r in requests if r["output_tokens"] > 1]


def mean(values):
    return sum(values) / len(values)


# name, what is resampled, the figure of a sample, whether more is better
FIGURES = [("output tokens/s", stretches, mean, True)] + [
    (f"{name} p{percent} ms", values, lambda sample, share=percent / 100: percentile(sample, share), False)
    for name, values in (("TTFT", latencies("ttft_ms")), ("TPOT", tpot), ("E2EL", latencies("e2el_ms")))
    for percent in (50, 99)]


def resampled(values, figure, rng):
    return [figure(rng.choices(values, k=len(values))) for _ in range(RESAMPLES)]


def compare(base, other, rng):
    """Yields name, base's figure, other's, their ratio, its interval, and whether more is better."""
    for name, values_of, figure, more_is_better in FIGURES:
        a, b = values_of(base), values_of(other)
        if not a or not b or figure(a) == 0:
            continue
        ratios = [y / x for x, y in zip(resampled(a, figure, rng), resampled(b, figure, rng)) if x != 0]
        yield (name, figure(a), figure(b), figure(b) / figure(a), percentile(ratios, 0.025), percentile(ratios, 0.975),
               more_is_better)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("others", nargs="+", metavar="other")
    parser.add_argument("--bound", type=float, default=0.05)
    args = parser.parse_args()
    if not args.bound >= 0:
        parser.error("--bound: must be 0 or more")
    try:
        base, others = read_run(args.base), [read_run(path) for path in args.others]
    except NotARun as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    regressed = False
    for path, other in zip(args.others, others):
        print(f"{path} against {args.base}")
        for name, a, b, ratio, low, high, more_is_better in compare(base, other, random.Random(1)):
            worse = high < 1 - args.bound if more_is_better else low > 1 + args.bound
            regressed = regressed or worse
            print(f"  {name:<16}{a:>12.2f}{b:>12.2f}  x {ratio:.3f} ({low:.3f} to {high:.3f}){'  WORSE' if worse else ''}")
    return 1 if regressed else 0


if __name__ == "__main__":
    sys.exit(main())
