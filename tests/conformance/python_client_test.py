#!/usr/bin/env python3
"""A Python client against a daemon that serves the quickstart model: what users of nibble.v1 rely on.

usage: python_client_test.py      with the packages of requirements.txt; tests/run.sh makes the environment
"""
import concurrent.futures
import sys
import tempfile
import time
import unittest
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import daemon as daemons

STUBS = tempfile.TemporaryDirectory()
daemons.make_stubs(STUBS.name)
sys.path.insert(0, STUBS.name)
from nibble.v1 import generate_pb2 as pb
from nibble.v1 import inference_pb2
from nibble.v1 import inference_pb2_grpc


class PythonClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = daemons.Daemon()
        cls.addClassCleanup(cls.daemon.kill)
        cls.channel = grpc.insecure_channel(cls.daemon.ready["grpc"])
        cls.addClassCleanup(cls.channel.close)
        cls.stub = inference_pb2_grpc.InferenceStub(cls.channel)

    def request(self, text="The capital of France is", max_tokens=16, **fields):
        return pb.GenerateRequest(text=text, sampling=pb.Sampling(temperature=0),
                                  stopping=pb.Stopping(max_tokens=max_tokens, ignore_eos=True), **fields)

    def answer(self, request):
        """Text, ids and the Finished event of a request with one choice."""
        text, ids, finished = "", [], None
        for response in self.stub.Generate(request, timeout=120):
            self.assertIsNone(finished, "an event after Finished")
            event = response.WhichOneof("event")
            if event == "chunk":
                text += response.chunk.text
                ids += response.chunk.token_ids
            elif event == "finished":
                finished = response.finished
        self.assertIsNotNone(finished)
        return text, ids, finished

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.daemon.ready['metrics']}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + "{", name + " ")))

    def assert_code(self, code, named, request, **call):
        with self.assertRaises(grpc.RpcError) as raised:
            list(self.stub.Generate(request, **call))
        self.assertEqual(raised.exception.code(), code)
        self.assertIn(named, raised.exception.details())

    def assert_becomes_idle(self):
        until = time.monotonic() + 5
        while self.metric("vllm:num_requests_running") or self.metric("vllm:kv_cache_usage_perc"):
            self.assertLess(time.monotonic(), until, "a request or a page is still held")
            time.sleep(0.05)

    def test_model(self):
        model = self.stub.GetModel(inference_pb2.GetModelRequest(), timeout=5)
        self.assertEqual(model.name, self.daemon.ready["model"])
        self.assertEqual((model.vocab_size, model.architecture, model.chat), (49152, "llama", True))
        listed = self.stub.ListModels(inference_pb2.ListModelsRequest(), timeout=5).models
        self.assertEqual([m.name for m in listed], [model.name])

    def test_tokens_and_back(self):
        text = "Grüße, 世界! 🙂  def f(x):\n\treturn 42"
        ids = self.stub.Tokenize(inference_pb2.TokenizeRequest(text=text), timeout=5).ids
        self.assertEqual(self.stub.Detokenize(inference_pb2.DetokenizeRequest(ids=ids), timeout=5).text, text)

    def test_streams_text_and_ids(self):
        text, ids, finished = self.answer(self.request())
        self.assertEqual(len(ids), 16)
        self.assertIn("Paris", text)
        self.assertEqual(self.stub.Detokenize(inference_pb2.DetokenizeRequest(ids=ids), timeout=5).text, text)
        self.assertEqual(finished.reason, pb.FINISH_REASON_LENGTH)
        self.assertEqual(finished.usage.generated_tokens, 16)

    def test_chat_follows_the_models_template(self):
        messages = [pb.ChatMessage(role="user", content="What is the capital of France? One word.")]
        request = pb.GenerateRequest(chat=pb.Chat(messages=messages), sampling=pb.Sampling(temperature=0),
                                     stopping=pb.Stopping(max_tokens=32))
        self.assertIn("Paris", self.answer(request)[0])

    def test_answers_do_not_depend_on_the_company(self):
        prompts = [f"Item {i}: a story about {word} begins" for i, word in enumerate(["rain", "iron", "cats", "tea"] * 8)]
        alone = [self.answer(self.request(text=p, max_tokens=12))[1] for p in prompts[:4]]
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            together = list(pool.map(lambda p: self.answer(self.request(text=p, max_tokens=12))[1], prompts))
        self.assertEqual(together[:4], alone)

    def test_a_seed_repeats_a_drawn_answer(self):
        request = pb.GenerateRequest(text="Once upon a time", sampling=pb.Sampling(temperature=1, seed=7),
                                     stopping=pb.Stopping(max_tokens=16))
        self.assertEqual(self.answer(request)[:2], self.answer(request)[:2])

    def test_cancel_frees_everything(self):
        stream = self.stub.Generate(self.request(max_tokens=2000))
        next(stream)
        stream.cancel()
        self.assert_becomes_idle()

    def test_deadline(self):
        self.assert_code(grpc.StatusCode.DEADLINE_EXCEEDED, "", self.request(max_tokens=4000), timeout=0.3)
        self.assert_becomes_idle()

    def test_refusals_name_the_field(self):
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        self.assert_code(invalid, "max_tokens", self.request(max_tokens=0))
        self.assert_code(invalid, "n", pb.GenerateRequest(text="x", sampling=pb.Sampling(n=9)))
        self.assert_code(invalid, "temperature", pb.GenerateRequest(text="x", sampling=pb.Sampling(temperature=-1)))
        self.assert_code(grpc.StatusCode.NOT_FOUND, "model", self.request(model="no-such"))

    def test_health_and_reflection(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        for service in ("", "nibble.v1.Inference"):
            status = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status
            self.assertEqual(status, health_pb2.HealthCheckResponse.SERVING)
        reflection = reflection_pb2_grpc.ServerReflectionStub(self.channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        reply = next(reflection.ServerReflectionInfo(iter([ask]), timeout=5))
        self.assertIn("nibble.v1.Inference", {s.name for s in reply.list_services_response.service})

    def test_http_port(self):
        for page in ("livez", "readyz"):
            with urllib.request.urlopen(f"http://{self.daemon.ready['metrics']}/{page}", timeout=5) as reply:
                self.assertEqual(reply.status, 200)
        before = self.metric("vllm:generation_tokens_total")
        self.answer(self.request(max_tokens=5))
        self.assertEqual(self.metric("vllm:generation_tokens_total") - before, 5)


class Drain(unittest.TestCase):
    def test_sigterm_lets_a_running_answer_finish(self):
        daemon = daemons.Daemon()
        self.addCleanup(daemon.kill)
        with grpc.insecure_channel(daemon.ready["grpc"]) as channel:
            stub = inference_pb2_grpc.InferenceStub(channel)
            request = pb.GenerateRequest(text="Count:", stopping=pb.Stopping(max_tokens=64, ignore_eos=True))
            stream = stub.Generate(request, timeout=60)
            next(stream)
            daemon.process.terminate()
            last = list(stream)[-1]
        self.assertEqual(last.finished.reason, pb.FINISH_REASON_LENGTH)
        self.assertEqual(daemon.process.wait(timeout=30), 0)


if __name__ == "__main__":
    unittest.main()
