#!/usr/bin/env python3
"""Peers and daemons that vanish or stand still in mid-stream: rows 23, 64 and 68 of the robustness table.

Needs the packages of requirements.txt and http2_requirements.txt, a built nibbled (NIBBLE_BUILD, or build/release) and
the model smollm2 in ${NIBBLE_CACHE:-~/.cache/nibble}. What takes the daemon's own time limits waits at the same time.
"""
import concurrent.futures
import pathlib
import signal
import subprocess
import sys
import time
import unittest

import grpc
from grpc_health.v1 import health_pb2

import daemon as daemons
import universal
from http2_client import Connection, fields, message

WATCH = "/grpc.health.v1.Health/Watch"
KEEPALIVE_SECONDS = 40  # a ping after 30 s, 10 s for its answer
SUSPENDED_SECONDS = 35  # more than any of the daemon's limits on a reader
NAMESPACES = ["unshare", "--map-root-user", "--net"]
LATE = 5  # seconds that a busy machine may add


def may_make_namespaces():
    return subprocess.run([*NAMESPACES, "true"], capture_output=True, timeout=10).returncode == 0


class Interruption(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.messages, cls.calls = daemons.nibble_v1(cls)
        pool = concurrent.futures.ThreadPoolExecutor()
        cls.addClassCleanup(pool.shutdown)
        cls.silent = pool.submit(cls.seconds_of_a_silent_peer)
        cls.half_open = pool.submit(cls.half_open_peer) if may_make_namespaces() else None
        cls.suspended = pool.submit(cls.suspend)

    @classmethod
    def request(cls, max_tokens):
        return cls.messages.GenerateRequest(
            text="The sea", sampling=cls.messages.Sampling(temperature=0),
            stopping=cls.messages.Stopping(max_tokens=max_tokens, ignore_eos=True))

    @classmethod
    def started(cls):
        """A daemon, and the channel and stub of a client of it."""
        daemon = daemons.Daemon("--threads=1")
        channel = grpc.insecure_channel(daemon.ready["grpc"])
        return daemon, channel, cls.calls.InferenceStub(channel)

    @staticmethod
    def tokens(stream):
        return [token for event in stream for token in event.chunk.token_ids]

    @staticmethod
    def seconds_of_a_silent_peer():
        """How long a connection is kept whose peer, in mid-stream, answers no ping."""
        daemon = daemons.Daemon("--threads=1", model=daemons.TINY_MODEL)
        try:
            with Connection(daemon.ready["grpc"]) as connection:
                headers = connection.open(fields(WATCH))
                connection.send(headers)
                connection.send_body(headers.stream_id, message(health_pb2.HealthCheckRequest().SerializeToString()))
                connection.read(10, lambda: headers.stream_id in connection.answers)
                connection.socket.settimeout(2 * KEEPALIVE_SECONDS)
                start = time.monotonic()
                while connection.socket.recv(1 << 16):
                    pass
                return time.monotonic() - start
        finally:
            daemon.kill()

    @classmethod
    def half_open_peer(cls):
        script = pathlib.Path(__file__).with_name("half_open_peer.py")
        request = cls.request(4000).SerializeToString().hex()
        done = subprocess.run([*NAMESPACES, sys.executable, "-B", script, request], capture_output=True, text=True,
                              timeout=120)
        if done.returncode:
            raise RuntimeError(done.stderr)
        seconds, cancelled = done.stdout.split()
        return float(seconds), int(cancelled)

    @classmethod
    def suspend(cls):
        """A daemon stopped in mid-stream for a while: what its clients were told."""
        daemon, channel, inference = cls.started()
        cls.addClassCleanup(daemon.kill)
        cls.addClassCleanup(channel.close)
        watch = universal.Universal(daemon.process, daemon.ready["metrics"],
                                    lambda: cls.tokens(inference.Generate(cls.request(8), timeout=60)))
        expected = cls.tokens(inference.Generate(cls.request(200), timeout=120))
        streams = [inference.Generate(cls.request(200), timeout=300) for _ in range(3)]
        hurried = inference.Generate(cls.request(2000), timeout=SUSPENDED_SECONDS / 2)
        for stream in (*streams, hurried):
            next(stream)
        daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(SUSPENDED_SECONDS)
        daemon.process.send_signal(signal.SIGCONT)
        resumed = time.monotonic()
        told = [cls.outcome(stream) for stream in streams]
        seconds = time.monotonic() - resumed
        return watch, expected, told, cls.outcome(hurried), seconds

    @classmethod
    def outcome(cls, stream):
        """The tokens of a whole answer, or the code it ended with."""
        try:
            return cls.tokens(stream)
        except grpc.RpcError as error:
            return error.code()

    def test_Row23_a_silent_peer_is_hung_up_on(self):
        seconds = self.silent.result()
        print(f"a peer that answers no ping: closed after {seconds:.1f} s")
        self.assertLess(seconds, KEEPALIVE_SECONDS + LATE)

    def test_Row23_a_half_open_peer_in_mid_stream(self):
        if self.half_open is None:
            self.skipTest("this machine allows no network namespaces")
        seconds, cancelled = self.half_open.result()
        print(f"a link that died in mid-stream: sequence ended and pages free after {seconds:.1f} s")
        self.assertLess(seconds, KEEPALIVE_SECONDS + LATE)
        self.assertEqual(cancelled, 1)

    def test_Row64_killed_in_mid_stream_and_again(self):
        for _ in range(3):
            daemon, channel, inference = self.started()
            self.addCleanup(daemon.kill)
            with channel:
                answer = self.tokens(inference.Generate(self.request(8), timeout=60))
                streams = [inference.Generate(self.request(2000), timeout=60) for _ in range(4)]
                for stream in streams:
                    next(stream)
                daemon.kill()
                for stream in streams:
                    self.assertEqual(self.outcome(stream), grpc.StatusCode.UNAVAILABLE)
            budget = 3 + daemons.MODEL.stat().st_size / 500e6
            start = time.monotonic()
            again, channel, inference = self.started()
            seconds = time.monotonic() - start
            print(f"ready {seconds:.1f} s after kill -9, of {budget:.1f}")
            self.addCleanup(again.kill)
            with channel:
                self.assertEqual(self.tokens(inference.Generate(self.request(8), timeout=60)), answer)
            again.kill()
            self.assertLess(seconds, budget + LATE)

    def test_Row68_suspended_and_resumed(self):
        watch, expected, told, late, seconds = self.suspended.result()
        print(f"suspended for {SUSPENDED_SECONDS} s: streams whole {seconds:.1f} s after")
        self.assertEqual(len(expected), 200)
        self.assertEqual(told, [expected] * 3, "no stream whose reader was there all the time is killed")
        self.assertEqual(late, grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertEqual(universal.figure(watch.metrics, "nibble_cancelled_total"), 1)
        watch.check(self, 32 << 20)


if __name__ == "__main__":
    unittest.main()
