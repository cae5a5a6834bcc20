#!/usr/bin/env python3
"""The replicated system as deploy/local-cluster.sh runs it: real clients through the real edge and the real gateway to
two daemons, which are killed and restarted under load.

NIBBLE_ROLLING_ROUNDS: how often both daemons are restarted, 1; the goal is stated for 20.
"""
import os
import resource
import threading
import unittest

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from smg_grpc_proto import vllm_engine_pb2 as engine_pb2, vllm_engine_pb2_grpc

import cluster_fixture as fixture
from local_cluster import wait_until

ROUNDS = int(os.environ.get("NIBBLE_ROLLING_ROUNDS", "1"))


class Cluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = fixture.started_cluster(cls, "--threads=1")
        cls.api = fixture.client(cls.cluster)
        cls.model = cls.cluster.replicas[0].model

    def setUp(self):
        self.cluster.wait_ready()

    def generated(self, replica):
        """Tokens that it has generated."""
        text = fixture.local_cluster.get(f"http://{replica.metrics}/metrics")
        return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                    if line.startswith("vllm:generation_tokens_total{"))

    def test_openai_streams_from_both_daemons(self):
        before = [self.generated(replica) for replica in self.cluster.replicas]
        answers = [fixture.Answer(self.api, self.model, f"{i} {i * 7919} " * 20, 16) for i in range(12)]
        threads = [threading.Thread(target=answer.read) for answer in answers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([a.error or a.finish for a in answers], ["length"] * 12)
        self.assertTrue(all(a.pieces > 4 for a in answers), "answers come in pieces")
        for replica, count in zip(self.cluster.replicas, before):
            self.assertGreater(self.generated(replica), count, f"{replica.name} took none")

    def test_a_daemon_leaves_no_core(self):
        for replica in self.cluster.replicas:
            self.assertEqual(resource.prlimit(replica.process.pid, resource.RLIMIT_CORE), (0, 0), "prompts are in it")

    def channel(self):
        credentials = grpc.ssl_channel_credentials((self.cluster.folder / "tls.crt").read_bytes())
        channel = grpc.secure_channel(f"localhost:{self.cluster.ports['grpc']}", credentials)
        self.addCleanup(channel.close)
        return channel

    def test_grpc_at_the_edge_is_the_public_services_alone(self):
        channel = self.channel()
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        self.assertEqual(reply.status, health_pb2.HealthCheckResponse.SERVING)
        model = channel.unary_unary("/nibble.v1.Inference/ListModels")(b"", timeout=10)
        self.assertIn(self.model.encode(), model)
        with self.assertRaises(grpc.RpcError) as refused:
            vllm_engine_pb2_grpc.VllmEngineStub(channel).Abort(engine_pb2.AbortRequest(), timeout=10)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_killing_a_daemon_loses_its_streams_alone(self):
        lost = self.cluster.replicas[1]
        answers = [fixture.Answer(self.api, self.model, f"{i} {i * 104729} " * 20, 400) for i in range(8)]
        threads = [threading.Thread(target=answer.read) for answer in answers]
        for thread in threads:
            thread.start()
        wait_until("every stream to begin", lambda: all(a.pieces for a in answers))
        lost.kill()
        self.addCleanup(lost.start)
        new = [fixture.Answer(self.api, self.model, f"{i} after the end", 4).read() for i in range(16)]
        for thread in threads:
            thread.join()
        self.assertEqual([a.error for a in new], [None] * 16, "new requests are answered meanwhile")
        broken = [a for a in answers if not a.whole]
        self.assertTrue(all(a.error for a in broken), "a stream that was cut says so")
        self.assertTrue(0 < len(broken) < 8, f"{len(broken)} of 8 broken")

    def roll(self, load):
        """What came of the load while both daemons were restarted ROUNDS times."""
        try:
            for _ in range(ROUNDS):
                for replica in self.cluster.replicas:
                    self.assertEqual(replica.stop(), 0)
                    replica.start()
                    self.cluster.wait_ready()
        finally:
            answers = load.stop()
        return answers

    def test_rolling_restarts_lose_no_rpc(self):
        errors = self.roll(fixture.RpcLoad(self.cluster))
        print(f"{ROUNDS} rolling restarts: {len(errors)} RPCs, {len(errors) - errors.count(None)} lost")
        self.assertEqual([error for error in errors if error], [])
        self.assertGreater(len(errors), 6 * ROUNDS)

    def test_rolling_restarts_lose_nothing(self):
        answers = self.roll(fixture.Load(self.cluster))
        lost = [a for a in answers if not a.whole]
        print(f"{ROUNDS} rolling restarts: {len(answers)} streams, {len(lost)} lost")
        self.assertEqual([f"{a.error!r} {a.finish} after {a.pieces}" for a in lost], [])
        self.assertGreater(len(answers), 6 * ROUNDS)


if __name__ == "__main__":
    unittest.main()
