#!/usr/bin/env python3
"""What the daemons' KV events are worth: the share of prompt tokens that the prefix cache has, with cache-aware routing
and with round robin.

Prefixes are put into one daemon or the other behind the gateway's back, so only events can tell it where each is. Both
daemons have KV memory for little more than half of them.
"""
import random
import unittest

import grpc
from smg_grpc_proto import vllm_engine_pb2 as engine_pb2, vllm_engine_pb2_grpc

import cluster_fixture as fixture

GROUPS, ROUNDS, PREFIX_WORDS = 20, 2, 300
KV_MEMORY = "76MiB"  # some 3,400 tokens of SmolLM2 in f16
GOAL = 1.5


def prefix(group):
    """Words that no other group begins with."""
    words = random.Random(group)
    return " ".join(words.choice(("river", "stone", "cloud", "bread", "night", "horse")) for _ in range(PREFIX_WORDS))


def counters(cluster):
    """Prompt tokens looked up and found, over all daemons."""
    totals = {"queries": 0.0, "hits": 0.0}
    for replica in cluster.replicas:
        for line in fixture.local_cluster.get(f"http://{replica.metrics}/metrics").splitlines():
            for name in totals:
                if line.startswith(f"vllm:prefix_cache_{name}_total{{"):
                    totals[name] += float(line.rsplit(" ", 1)[1])
    return totals


class Routing(unittest.TestCase):
    def place(self, cluster):
        """Each prefix into the cache of one daemon, asked directly."""
        stubs = []
        for replica in cluster.replicas:
            channel = grpc.insecure_channel(replica.grpc)
            self.addCleanup(channel.close)
            stubs.append(vllm_engine_pb2_grpc.VllmEngineStub(channel))
        for group in range(GROUPS):
            request = engine_pb2.GenerateRequest(
                request_id=f"place-{group}", text=prefix(group), stream=True,
                sampling_params=engine_pb2.SamplingParams(temperature=0, top_p=1, max_tokens=1, n=1))
            list(stubs[group % len(stubs)].Generate(request, timeout=60))

    def hit_rate(self, policy):
        cluster = fixture.started_cluster(self, "--threads=1", f"--kv-memory={KV_MEMORY}", policy=policy)
        self.place(cluster)
        api, before = fixture.client(cluster), counters(cluster)
        order = [group for group in range(GROUPS) for _ in range(ROUNDS)]
        random.Random(5).shuffle(order)  # neither lucky nor unlucky for round robin
        for i, group in enumerate(order):
            api.completions.create(model=cluster.replicas[0].model, prompt=f"{prefix(group)} and {i}?", max_tokens=1)
        after = counters(cluster)
        return (after["hits"] - before["hits"]) / (after["queries"] - before["queries"])

    def test_cache_aware_routing_finds_more_than_round_robin(self):
        aware, turns = self.hit_rate("cache_aware"), self.hit_rate("round_robin")
        print(f"prefix hit rate: cache_aware {aware:.3f}, round_robin {turns:.3f}, ratio {aware / turns:.2f}")
        self.assertGreaterEqual(aware, GOAL * turns)


if __name__ == "__main__":
    unittest.main()
