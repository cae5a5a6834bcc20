#!/usr/bin/env python3
"""A running nibbled, asked by the gRPC of another language: health, reflection, a stream, a deadline, a cancel.

Needs the packages of requirements.txt, a built nibbled (NIBBLE_BUILD, or build/release) and the model smollm2 in
${NIBBLE_CACHE:-~/.cache/nibble}.
"""
import time
import unittest

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import daemon as daemons


class PythonClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.messages, calls = daemons.nibble_v1(cls)
        cls.daemon = daemons.Daemon()
        cls.addClassCleanup(cls.daemon.kill)
        cls.channel = grpc.insecure_channel(cls.daemon.ready["grpc"])
        cls.addClassCleanup(cls.channel.close)
        cls.inference = calls.InferenceStub(cls.channel)

    def request(self, max_tokens, **fields):
        return self.messages.GenerateRequest(
            text="The capital of France is", sampling=self.messages.Sampling(temperature=0),
            stopping=self.messages.Stopping(max_tokens=max_tokens, ignore_eos=True), **fields)

    def text_of(self, events):
        return "".join(event.chunk.text for event in events)

    def test_health(self):
        stub = health_pb2_grpc.HealthStub(self.channel)
        for service in ("", "nibble.v1.Inference"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            self.assertEqual(reply.status, health_pb2.HealthCheckResponse.SERVING)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=5)
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
        watch.cancel()

    def test_reflection(self):
        stub = reflection_pb2_grpc.ServerReflectionStub(self.channel)
        ask = [reflection_pb2.ServerReflectionRequest(list_services="")]
        reply = next(stub.ServerReflectionInfo(iter(ask), timeout=5))
        names = {service.name for service in reply.list_services_response.service}
        self.assertLessEqual({"nibble.v1.Inference", "grpc.health.v1.Health"}, names)

    def test_stream(self):
        events = list(self.inference.Generate(self.request(16), timeout=60))
        self.assertEqual(events[0].WhichOneof("event"), "started")
        self.assertEqual(events[-1].finished.usage.generated_tokens, 16)
        self.assertEqual(events[-1].finished.reason, self.messages.FINISH_REASON_LENGTH)
        self.assertEqual(sum(len(event.chunk.token_ids) for event in events), 16)
        again = list(self.inference.Generate(self.request(16), timeout=60))
        self.assertIn("Paris", self.text_of(events))
        self.assertEqual(self.text_of(events), self.text_of(again))

    def test_bad_field(self):
        request = self.request(4)
        request.sampling.top_p = 2
        with self.assertRaises(grpc.RpcError) as caught:
            list(self.inference.Generate(request, timeout=5))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("sampling.top_p", caught.exception.details())

    def test_deadline(self):
        with self.assertRaises(grpc.RpcError) as caught:
            list(self.inference.Generate(self.request(4000), timeout=0.3))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)

    def test_cancel_frees_the_request_id(self):
        stream = self.inference.Generate(self.request(4000, request_id="once"), timeout=60)
        next(stream)
        stream.cancel()
        give_up = time.monotonic() + 5
        while True:
            try:
                self.assertTrue(list(self.inference.Generate(self.request(1, request_id="once"), timeout=60)))
                return
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.ALREADY_EXISTS)
                self.assertLess(time.monotonic(), give_up)

    def test_zz_drain(self):
        stream = self.inference.Generate(self.request(64), timeout=60)
        next(stream)
        self.daemon.terminate()
        self.assertEqual(sum(len(event.chunk.token_ids) for event in stream), 64)
        self.assertEqual(self.daemon.wait(10), 0)


if __name__ == "__main__":
    unittest.main()
