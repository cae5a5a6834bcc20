#!/usr/bin/env python3
"""Limits of a cluster under strain: what Prometheus sees of it, a scrape during a long prefill, and descriptors that
run out, behind the edge and at a daemon without one.
"""
import contextlib
import json
import os
import resource
import socket
import threading
import time
import unittest
import urllib.parse

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from smg_grpc_proto import vllm_engine_pb2 as engine_pb2, vllm_engine_pb2_grpc

import cluster_fixture as fixture
from local_cluster import Replica, get, wait_until

TOKEN_BUCKETS = [.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
REQUEST_BUCKETS = [.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680]
BUCKETS = {
    "vllm:time_to_first_token_seconds": [.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20,
                                         40, 80, 160, 640, 2560],
    "vllm:inter_token_latency_seconds": TOKEN_BUCKETS,
    "vllm:request_time_per_output_token_seconds": TOKEN_BUCKETS,
    **{f"vllm:{name}_seconds": REQUEST_BUCKETS for name in ("e2e_request_latency", "request_queue_time",
                                                            "request_prefill_time", "request_decode_time")},
}
TYPES = {
    **{f"vllm:{name}": "gauge" for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
                                            "cache_config_info")},
    **{f"vllm:{name}_total": "counter" for name in (
        "num_preemptions", "prefix_cache_queries", "prefix_cache_hits", "prompt_tokens", "generation_tokens",
        "request_success")},
    **dict.fromkeys([*BUCKETS, "vllm:request_prompt_tokens", "vllm:request_generation_tokens"], "histogram"),
}
PREFILL_TOKENS = 3000


def open_descriptors(replica):
    return len(os.listdir(f"/proc/{replica.process.pid}/fd"))


def leave_descriptors(replica, spare):
    """Lowers the daemon's limit to what it has open and so many more."""
    _, hard = resource.prlimit(replica.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(replica.process.pid, resource.RLIMIT_NOFILE, (open_descriptors(replica) + spare, hard))


@contextlib.contextmanager
def connections(address, count):
    """So many connections that say nothing, or as many as are to be had."""
    host, port = address.rsplit(":", 1)
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=2))
        yield


def healthy(channel, seconds):
    try:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        return True
    except grpc.RpcError:
        return False


class Edge(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
        cls.addClassCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        cls.cluster = fixture.started_cluster(cls, "--threads=1")
        cls.first = cls.cluster.replicas[0]

    def prometheus(self, path, **query):
        text = get(f"http://{self.cluster.address('prometheus')}/api/v1/{path}?{urllib.parse.urlencode(query)}")
        return json.loads(text)["data"] if text else {}

    def up(self):
        return [float(r["value"][1]) for r in self.prometheus("query", query="up").get("result", [])]

    def edge_figure(self, name):
        """The greatest sample of that name at the edge's own metrics, which are to be had whatever its load."""
        text = get(f"http://{self.cluster.address('status')}/metrics") or ""
        return max((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name)), default=0)

    def test_prometheus_scrapes_names_types_and_buckets(self):
        answer = fixture.Answer(fixture.client(self.cluster), self.first.model, "What is the sea?", 8).read()
        self.assertTrue(answer.whole, answer.error)
        wait_until("every target up", lambda: self.up() == [1.0] * 4)
        wait_until("the answer in the figures", lambda: self.prometheus(
            "query", query="sum(vllm:generation_tokens_total) >= 8").get("result"))
        for name, kind in TYPES.items():
            metadata = self.prometheus("metadata", metric=name).get(name) or [{}]
            self.assertEqual(metadata[0].get("type"), kind, name)
        for name, bounds in BUCKETS.items():
            series = self.prometheus("query", query=f"{name}_bucket{{instance='{self.first.metrics}'}}")["result"]
            got = sorted(float(s["metric"]["le"]) for s in series)
            self.assertEqual(got, [*bounds, float("inf")], name)
        for row in self.prometheus("query", query="vllm:num_requests_running")["result"]:
            self.assertEqual((row["metric"]["model_name"], row["metric"]["engine"]), (self.first.model, "0"))

    def test_Row67_a_scrape_during_a_long_prefill_is_quick(self):
        channel = grpc.insecure_channel(self.first.grpc)
        self.addCleanup(channel.close)
        prompt = engine_pb2.TokenizedInput(input_ids=[504 + i % 900 for i in range(PREFILL_TOKENS)])
        request = engine_pb2.GenerateRequest(
            request_id="long", tokenized=prompt, stream=True,
            sampling_params=engine_pb2.SamplingParams(temperature=0, top_p=1, max_tokens=1, n=1))
        prefill = threading.Thread(
            target=lambda: list(vllm_engine_pb2_grpc.VllmEngineStub(channel).Generate(request, timeout=120)))
        prefill.start()
        times = []
        while prefill.is_alive():
            start = time.monotonic()
            self.assertIn("vllm:num_requests_running", get(f"http://{self.first.metrics}/metrics"))
            times.append(time.monotonic() - start)
            time.sleep(0.01)
        times.sort()
        p99 = times[int(0.99 * (len(times) - 1))]
        print(f"{len(times)} scrapes during a prefill of {PREFILL_TOKENS} tokens: p99 {1e3 * p99:.1f} ms")
        self.assertGreater(len(times), 50)
        self.assertLessEqual(p99, 0.05)

    def test_Row21_descriptors_run_out_behind_the_edge(self):
        """Connections stay at the edge, so the daemon never runs out, and the edge recovers at once."""
        address = self.cluster.address("grpc")
        credentials = grpc.ssl_channel_credentials((self.cluster.folder / "tls.crt").read_bytes())
        before = open_descriptors(self.first)
        for replica in self.cluster.replicas:
            pid = replica.process.pid
            self.addCleanup(resource.prlimit, pid, resource.RLIMIT_NOFILE, resource.prlimit(pid, resource.RLIMIT_NOFILE))
            leave_descriptors(replica, 24)
        with connections(address, 1500):
            self.assertLess(open_descriptors(self.first) - before, 16)
            with grpc.insecure_channel(self.first.grpc) as direct:
                self.assertTrue(healthy(direct, 2), "the daemon takes connections")
            wait_until("connections above the cap to be refused", lambda: self.edge_figure(
                "envoy_listener_downstream_global_cx_overflow") >= 1500 - 1024)
            self.assertGreaterEqual(self.edge_figure("envoy_cluster_membership_healthy"), 2, "the workers")
        time.sleep(0.2)
        with grpc.secure_channel(f"localhost:{address.rsplit(':', 1)[1]}", credentials) as channel:
            self.assertTrue(healthy(channel, 1), "an RPC within a second of the release")

    def test_Row21_descriptors_run_out_at_a_bare_daemon(self):
        bare = Replica("bare", fixture.NIBBLED, fixture.MODEL, ["--threads=1"], self.cluster.folder)
        self.addCleanup(bare.stop)
        bare.start()
        leave_descriptors(bare, 24)
        with connections(bare.grpc, 200):
            time.sleep(0.2)
        start = time.monotonic()
        with grpc.insecure_channel(bare.grpc) as channel:
            self.assertTrue(healthy(channel, 1), "an RPC within a second of the release")
        print(f"bare daemon: answers {time.monotonic() - start:.2f} s after the release")
        self.assertIsNotNone(get(f"http://{bare.metrics}/livez"))


if __name__ == "__main__":
    unittest.main()
