#!/usr/bin/env python3
"""The edge in front of a daemon, against clients that break the rules of HTTP/2: what of rows 16 to 19 and 22 of the
robustness table Debian's gRPC cannot hold by itself (tests/conformance/chaos_test.py shows how far it does).
"""
import contextlib
import json
import pathlib
import queue
import socket
import ssl
import sys
import tempfile
import time
import unittest

import tritonclient.grpc as triton
from hyperframe.frame import (ContinuationFrame, DataFrame, PingFrame, PriorityFrame, RstStreamFrame,
                              SettingsFrame)

import cluster_fixture as fixture
import local_cluster

sys.path.insert(0, str(fixture.ROOT / "tests" / "conformance"))
import universal
from http2_client import Closed, Connection, literal, message

ENHANCE_YOUR_CALM = 11
MODEL = fixture.ROOT / "tests" / "golden" / "logits" / "tiny-llama-f32.gguf"
MIB = 1 << 20
CONNECTIONS = 1024
# GenerateRequest: text "The sea", temperature 0, 400 tokens whatever ends there are.
ASK = message(b'"\x07The sea' + b":\x05\r\0\0\0\0" + b"B\x05\x08\x90\x03(\x01")


class EdgeChaos(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="nibble-edge-")
        cls.addClassCleanup(folder.cleanup)
        folder = pathlib.Path(folder.name)
        cls.worker = local_cluster.Replica("nibbled", fixture.NIBBLED, MODEL, ["--threads=1"], folder)
        cls.addClassCleanup(cls.worker.stop)
        cls.worker.start()
        cls.ports = {name: local_cluster.free_port() for name in ("openai", "grpc", "status", "admin", "gateway")}
        addresses = {name: [f"127.0.0.1:{port}"] for name, port in cls.ports.items()}
        local_cluster.self_signed(folder)
        local_cluster.write_edge_config(folder, cls.ports, {**addresses, "workers": [cls.worker.grpc]})
        cls.edge = local_cluster.edge(folder)
        cls.addClassCleanup(cls.edge.stop)
        cls.edge.start()
        cls.address = addresses["grpc"][0]
        cls.certificate = str(folder / "tls.crt")
        cls.tls = ssl.create_default_context(cafile=cls.certificate)
        cls.tls.set_alpn_protocols(["h2"])
        local_cluster.wait_until("the worker behind the edge", lambda: cls.edge_figure(
            'envoy_cluster_membership_healthy{envoy_cluster_name="workers"') == 1)

    def setUp(self):
        self.client = triton.InferenceServerClient(f"localhost:{self.ports['grpc']}", ssl=True,
                                                   root_certificates=self.certificate)
        self.addCleanup(self.client.close)
        self.universal = universal.Universal(self.worker.process, self.worker.metrics, self.canary)
        self.addCleanup(lambda: self.universal.check(self, 32 * MIB))

    @classmethod
    def edge_figure(cls, name):
        text = local_cluster.get(f"http://127.0.0.1:{cls.ports['status']}/metrics") or ""
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    @staticmethod
    def inputs():
        sampling = json.dumps({"max_tokens": 16, "ignore_eos": True, "temperature": 0})
        return [fixture.RpcLoad.tensor("text_input", "The sea"),
                fixture.RpcLoad.tensor("sampling_parameters", sampling)]

    def canary(self):
        """The answer to a well-behaved client of the edge."""
        return self.client.infer(self.worker.model, self.inputs(), client_timeout=30).as_numpy("text_output")[0]

    def connection(self):
        return Connection(self.address, self.tls)

    def test_a_stream_of_requests_is_not_held_back(self):
        answers = queue.Queue()
        self.client.start_stream(lambda result, error: answers.put(error or result.as_numpy("text_output")[0]))
        for _ in range(2):
            self.client.async_stream_infer(self.worker.model, self.inputs())
            self.assertEqual(answers.get(timeout=30), self.universal.answer)
        self.client.stop_stream()

    def test_Row16_a_message_without_end(self):
        """The daemon, which would keep all of it, sees no more than the edge's limit."""
        with self.connection() as connection:
            headers = connection.open()
            connection.send(headers)
            with contextlib.suppress(Closed):
                connection.send_body(headers.stream_id, message(bytes(64 * MIB), declared=2**32 - 1), end=False)
            self.assertEqual(connection.answer(headers.stream_id), "2")
            self.assertLess(self.universal.rss_growth(), 8 * MIB)

    def test_Row16_a_message_one_past_the_limit(self):
        with self.connection() as connection:
            self.assertEqual(connection.call(message(bytes(MIB + 1))), "8")  # RESOURCE_EXHAUSTED

    def test_Row17_metadata_of_20_KB_and_1_MB(self):
        for size in (20_000, MIB):
            with self.subTest(size=size), self.connection() as connection:
                with contextlib.suppress(Closed):
                    connection.send_block(literal(b"x", b"v" * size))
                self.assertNotIn(connection.answer(1), ("0", "silence"))

    def test_Row17_endless_CONTINUATION(self):
        piece = b"".join(literal(b"x%d" % i, b"v" * 100) for i in range(140))
        with self.connection() as connection:
            headers = connection.open(flags=())
            connection.send(headers)
            with self.assertRaises(Closed):
                for _ in range(64 * MIB // len(piece)):
                    connection.send(ContinuationFrame(headers.stream_id, data=piece))

    def test_Row18_frames_that_hold_nothing(self):
        with self.connection() as connection:
            headers = connection.open()
            connection.send(headers, *[DataFrame(headers.stream_id, data=b"")] * 100)
            connection.read(10)
            self.assertTrue(connection.closed)

    def flood(self, make, seconds=20):
        """Sends what `make(connection)` gives, reading nothing, until the edge hangs up; the connection as it ended."""
        with self.connection() as connection:
            end = time.monotonic() + seconds
            with self.assertRaises(Closed):
                while time.monotonic() < end:
                    connection.send(make(connection))
            connection.read(5)
            return connection

    def test_Row19_streams_opened_and_reset_at_full_rate(self):
        def open_and_reset(connection):
            headers = connection.open()
            body = DataFrame(headers.stream_id, data=ASK, flags=["END_STREAM"])
            reset = RstStreamFrame(headers.stream_id, error_code=8)
            return headers.serialize() + body.serialize() + reset.serialize()

        connection = self.flood(open_and_reset)
        print(f"the edge hung up after {connection.streams} streams; GOAWAY {connection.goaway}")
        self.assertLess(connection.streams, 10_000)

    def test_Row22_floods_end_their_connection(self):
        for frame in (PingFrame(0, opaque_data=b"12345678"), SettingsFrame(0), PriorityFrame(1, stream_weight=10)):
            with self.subTest(frame=type(frame).__name__):
                burst = frame.serialize() * 500
                self.flood(lambda _, burst=burst: burst)

    def test_Row22_connections_are_capped(self):
        with contextlib.ExitStack() as stack:
            for _ in range(CONNECTIONS + 100):
                with contextlib.suppress(OSError):
                    stack.enter_context(socket.create_connection(("127.0.0.1", self.ports["grpc"]), timeout=2))
            local_cluster.wait_until("connections above the cap to be refused", lambda: self.edge_figure(
                "envoy_listener_downstream_global_cx_overflow") >= 100)


if __name__ == "__main__":
    unittest.main()
