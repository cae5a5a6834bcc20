#!/usr/bin/env python3
"""A bare nibbled against clients that keep to no rule of HTTP/2: rows 16 to 20 and 22 of the robustness table.

What Debian's gRPC cannot hold by itself, the edge in front does: tests/deploy/edge_chaos_test.py. Needs the packages of
requirements.txt and http2_requirements.txt, and a built nibbled (NIBBLE_BUILD, or build/release).
"""
import gzip
import socket
import time
import unittest

import grpc
from hyperframe.frame import (ContinuationFrame, DataFrame, PingFrame, PriorityFrame, RstStreamFrame,
                              SettingsFrame)

import daemon as daemons
import universal
from http2_client import Closed, Connection, literal, message

MIB = 1 << 20
MESSAGE_BYTES = 1 << 20
METADATA_BYTES = 16 << 10
CONNECTIONS = 1024
OK, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED = "0", "3", "8", "12"


class Chaos(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.messages, cls.calls = daemons.nibble_v1(cls)

    def setUp(self):
        self.spare_bytes = 32 * MIB  # of memory, that the test may leave behind
        self.daemon = daemons.Daemon("--threads=1", model=daemons.TINY_MODEL)
        self.addCleanup(self.daemon.kill)
        self.address = self.daemon.ready["grpc"]
        channel = grpc.insecure_channel(self.address)
        self.addCleanup(channel.close)
        self.inference = self.calls.InferenceStub(channel)
        self.universal = universal.Universal(self.daemon.process, self.daemon.ready["metrics"], self.canary)
        self.addCleanup(lambda: self.universal.check(self, self.spare_bytes))

    def request(self, text="The sea", max_tokens=24):
        return self.messages.GenerateRequest(
            text=text, sampling=self.messages.Sampling(temperature=0),
            stopping=self.messages.Stopping(max_tokens=max_tokens, ignore_eos=True))

    def canary(self):
        """The tokens that a well-behaved client gets."""
        stream = self.inference.Generate(self.request(), timeout=30)
        return [token for event in stream for token in event.chunk.token_ids]

    def body(self):
        return self.request().SerializeToString()

    def of_size(self, size):
        """A request of exactly so many bytes, whose text does not fit the context."""
        request = self.request(text="x")
        request.text = "x" * (size - request.ByteSize() - 2)  # a longer text has a longer length
        request.text += "x" * (size - request.ByteSize())
        self.assertEqual(request.ByteSize(), size)
        return request.SerializeToString()

    def answer(self, body, **changes):
        """What a new connection is told; it must still be of use afterwards."""
        with Connection(self.address) as connection:
            told = connection.call(body, **changes)
            self.assertEqual(connection.call(message(self.body())), OK, "the next call on the same connection")
            return told

    def test_Row16_message_at_the_limit_and_one_past(self):
        self.assertEqual(self.answer(message(self.of_size(MESSAGE_BYTES))), INVALID_ARGUMENT)  # the text is too long
        self.assertEqual(self.answer(message(self.of_size(MESSAGE_BYTES + 1))), RESOURCE_EXHAUSTED)

    def test_Row16_a_length_of_2_to_the_32_is_not_allocated(self):
        with Connection(self.address) as connection:
            headers = connection.open()
            connection.send(headers)
            connection.send_body(headers.stream_id, message(b"abc", declared=2**32 - 1), end=False)
            connection.read(0.5, lambda: connection.ended(headers.stream_id))
            self.assertLess(self.universal.rss_growth(), 8 * MIB)
        self.assertEqual(self.answer(message(b"abc", declared=2**32 - 1)), INVALID_ARGUMENT)

    def test_Row16_truncated(self):
        body = self.body()
        for cut in (0, 1, 4, 5, 6, len(body) + 4):
            with self.subTest(cut=cut):
                self.assertEqual(self.answer(message(body)[:cut]), INVALID_ARGUMENT)

    def test_Row16_compression_is_refused(self):
        bomb = gzip.compress(bytes(256 * MIB))
        self.assertLess(len(bomb), MESSAGE_BYTES)
        for encoding in ("gzip", "deflate"):
            with self.subTest(encoding=encoding):
                self.assertEqual(self.answer(message(bomb, compressed=1), grpc_encoding=encoding), UNIMPLEMENTED)
        self.assertLess(self.universal.rss_growth(), 16 * MIB)

    def test_Row16_a_bad_compression_flag_inflates_nothing(self):
        packed = gzip.compress(self.body())
        for flag, changes in ((1, {}), (1, {"grpc_encoding": "br"}), (1, {"grpc_encoding": "identity"}), (2, {}),
                              (255, {})):
            with self.subTest(flag=flag, **changes):
                self.assertEqual(self.answer(message(packed, compressed=flag), **changes), INVALID_ARGUMENT)

    def test_Row17_metadata_at_the_limit_and_one_past(self):
        fields_of_4000 = [literal(b"x%d" % i, b"v" * (4000 - 32 - 2)) for i in range(4)]
        rest = METADATA_BYTES - 4 * 4000
        for past in (0, 1):
            with self.subTest(past=past), Connection(self.address) as connection:
                connection.read(0.2)
                stream = connection.send_block(b"".join(fields_of_4000) + literal(b"y", b"v" * (rest - 32 - 1 + past)))
                connection.send_body(stream, message(self.body()))
                self.assertEqual(connection.answer(stream), RESOURCE_EXHAUSTED if past else OK)

    def test_Row17_metadata_of_20_KB_and_1_MB(self):
        for size, each in ((20_000, 20_000), (20_000, 100), (MIB, 8000), (MIB, 100)):
            with self.subTest(size=size, each=each), Connection(self.address) as connection:
                block = b"".join(literal(b"x%d" % i, b"v" * each) for i in range(size // each))
                stream = connection.send_block(block)
                connection.send_body(stream, message(self.body()))
                self.assertEqual(connection.answer(stream), RESOURCE_EXHAUSTED)

    def test_Row17_endless_CONTINUATION_of_one_connection_harms_no_other(self):
        self.spare_bytes = 128 * MIB
        piece = b"".join(literal(b"x%d" % i, b"v" * 100) for i in range(140))
        with Connection(self.address) as connection:
            headers = connection.open(flags=())
            connection.send(headers)
            try:
                for _ in range(32 * MIB // len(piece)):
                    connection.send(ContinuationFrame(headers.stream_id, data=piece))
                self.assertEqual(self.canary(), self.universal.answer)
            except Closed:
                pass

    def test_Row18_payload_in_one_byte_frames(self):
        body = message(self.of_size(200_000))
        with Connection(self.address) as connection:
            connection.read(0.2)
            headers = connection.open()
            connection.send(headers)
            frames = [DataFrame(headers.stream_id, data=body[i:i + 1]).serialize() for i in range(len(body))]
            for i in range(0, len(frames), 1000):
                connection.read(10, lambda: connection.room(headers.stream_id) >= 1000)
                connection.send(*frames[i:i + 1000])
                connection.window -= 1000
                connection.windows[headers.stream_id] -= 1000
            self.assertLess(self.universal.rss_growth(), 40 * MIB)
            connection.send(DataFrame(headers.stream_id, data=b"", flags=["END_STREAM"]))
            self.assertEqual(connection.answer(headers.stream_id), INVALID_ARGUMENT)  # the text is too long

    def test_Row19_streams_opened_and_reset_at_full_rate(self):
        # gRPC keeps what it has not got to, up to 20 KiB a stream; what bounds their number is the edge.
        self.spare_bytes = 256 * MIB
        body = message(self.request(max_tokens=400).SerializeToString())
        growth = []
        for _ in range(2):
            with Connection(self.address) as connection:
                while connection.streams < 3_000:
                    parts = []
                    for _ in range(50):
                        headers = connection.open()
                        stream = headers.stream_id
                        parts += [headers, DataFrame(stream, data=body, flags=["END_STREAM"]),
                                  RstStreamFrame(stream, error_code=8)]
                    connection.send(*parts)
                    connection.read(0)
            self.assertEqual(self.canary(), self.universal.answer)
            growth.append(self.universal.rss_growth())
        print("3,000 streams opened and reset, twice: " +
              ", ".join(f"{bytes_ / MIB:.0f} MiB" for bytes_ in growth) + " more resident")

    def test_Row20_bad_headers_end_their_stream_alone(self):
        bad = [{"te": "x"}, {"te": None}, {"_scheme": "x"}, {"_authority": None}, {"_path": None}, {"_method": None},
               {"_method": "GET"}]
        for changes in bad:
            with self.subTest(**changes), Connection(self.address) as connection:
                connection.read(0.1)
                first = connection.open()
                connection.send(first)
                self.assertEqual(connection.call(message(self.body()), **changes), "2")
                connection.send_body(first.stream_id, message(self.body()))
                self.assertEqual(connection.answer(first.stream_id), OK, "the stream beside it")

    def test_Row20_an_oversize_header_beside_a_bad_one(self):
        for changes in ({"te": "x"}, {"_scheme": "x"}, {"_authority": None}):
            with self.subTest(**changes), Connection(self.address) as connection:
                connection.read(0.1)
                self.assertIn(connection.call(message(self.body()), x_long="v" * 16000, **changes),
                              ("2", RESOURCE_EXHAUSTED))
                self.assertEqual(connection.call(message(self.body())), OK)

    def test_Row22_a_flood_of_pings_is_calmed(self):
        with Connection(self.address) as connection:
            connection.send(*[PingFrame(0, opaque_data=b"12345678")] * 8)
            connection.read(10)
            self.assertEqual((connection.goaway, connection.closed), (11, True))  # ENHANCE_YOUR_CALM
        with Connection(self.address) as connection, self.assertRaises(Closed):
            while True:  # in bursts: how much a client sends before it hears of the end is not the daemon's to bound
                connection.send(*[PingFrame(0, opaque_data=b"12345678")] * 500)
                connection.read(0.1)

    def test_Row22_floods_of_SETTINGS_and_PRIORITY_cost_nothing(self):
        for frame in (SettingsFrame(0, settings={SettingsFrame.MAX_CONCURRENT_STREAMS: 100}),
                      PriorityFrame(1, stream_weight=10)):
            with self.subTest(frame=type(frame).__name__), Connection(self.address) as connection:
                burst = frame.serialize() * 500
                for _ in range(200):
                    connection.send(burst)
                    connection.read(0)
                self.assertLess(self.universal.rss_growth(), 16 * MIB)
                self.assertEqual(connection.call(message(self.body())), OK)

    def test_Row22_idle_connections_are_capped_and_closed(self):
        host, port = self.address.rsplit(":", 1)
        before = self.universal.usage()[0]
        idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(CONNECTIONS + 200)]
        self.addCleanup(lambda: [connection.close() for connection in idle])
        for _ in range(20):
            self.assertLessEqual(self.universal.usage()[0], before + CONNECTIONS + universal.SPARE_DESCRIPTORS)
            time.sleep(0.05)
        self.assertEqual(self.canary(), self.universal.answer)
        self.assertTrue(universal.alive(self.universal.metrics))
        with Connection(self.address) as connection:
            connection.read(5)
            self.assertTrue(connection.closed, "one past the limit")
        end = time.monotonic() + 30  # none says HTTP/2 in the 10 s of a handshake
        while self.universal.usage()[0] > before + universal.SPARE_DESCRIPTORS and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(self.answer(message(self.body())), OK)


if __name__ == "__main__":
    unittest.main()
