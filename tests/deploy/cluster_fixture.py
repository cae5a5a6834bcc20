"""A cluster of deploy/local_cluster.py for a test, and clients of it; in the environment `gateway` of tests/run.sh."""
import json
import os
import pathlib
import ssl
import sys
import tempfile
import threading
import time

import numpy as np
import openai
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy"))
sys.dont_write_bytecode = True
import local_cluster

NIBBLED = ROOT / os.environ.get("NIBBLE_BUILD", "build/release") / "bin" / "nibbled"  # another build: NIBBLE_BUILD
MODEL = local_cluster.CACHE / "smollm2.gguf"


def started_cluster(test, *flags, model=MODEL, **options):
    """A running cluster; it and its files go with `test`, a test case or a test class."""
    clean_up = test.addClassCleanup if isinstance(test, type) else test.addCleanup
    folder = tempfile.TemporaryDirectory(prefix="nibble-cluster-")
    clean_up(folder.cleanup)
    cluster = local_cluster.Cluster(pathlib.Path(folder.name), NIBBLED, model, flags=flags, **options)
    clean_up(cluster.stop)
    cluster.start()
    return cluster


def client(cluster):
    """openai's client, at the edge, over TLS; it never tries again by itself."""
    context = ssl.create_default_context(cafile=cluster.folder / "tls.crt")
    return openai.OpenAI(base_url=f"https://localhost:{cluster.ports['openai']}/v1", api_key="none", max_retries=0,
                         timeout=120, http_client=openai.DefaultHttpxClient(verify=context))


class Answer:
    """One streamed chat completion: grows while read() runs; `error` or `finish` say how it ended."""

    def __init__(self, api, model, question, tokens):
        self.api, self.model, self.question, self.tokens = api, model, question, tokens
        self.text, self.pieces, self.finish, self.error = "", 0, None, None

    def read(self):
        try:
            for chunk in self.api.chat.completions.create(
                    model=self.model, messages=[{"role": "user", "content": self.question}], max_tokens=self.tokens,
                    temperature=0, stream=True, extra_body={"ignore_eos": True}):
                for choice in chunk.choices:
                    self.text += choice.delta.content or ""
                    self.pieces += bool(choice.delta.content)
                    self.finish = choice.finish_reason or self.finish
        except (openai.APIError, OSError) as error:
            self.error = error
        return self

    @property
    def whole(self):
        return self.error is None and self.finish == "length"


class Load:
    """Threads that ask one streamed question after another until stop()."""

    def __init__(self, cluster, threads=6, tokens=24):
        self.answers, self.stopping = [], False
        self.cluster, self.tokens = cluster, tokens
        self.threads = [threading.Thread(target=self.ask, args=(i,)) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def ask(self, number):
        api, count = client(self.cluster), 0
        while not self.stopping:
            count += 1
            question = f"{number} and {count} make what? " * 4
            self.answers.append(Answer(api, self.cluster.replicas[0].model, question, self.tokens).read())
            if self.answers[-1].error:
                time.sleep(0.05)

    def stop(self):
        """Every answer."""
        self.stopping = True
        for thread in self.threads:
            thread.join()
        return self.answers


class RpcLoad(Load):
    """The same by the Open Inference Protocol, whole answers; `answers` has the error of each, or None."""

    def ask(self, number):
        certificate = str(self.cluster.folder / "tls.crt")
        api = triton.InferenceServerClient(f"localhost:{self.cluster.ports['grpc']}", ssl=True,
                                           root_certificates=certificate)
        sampling = json.dumps({"max_tokens": self.tokens, "ignore_eos": True, "temperature": 0})
        while not self.stopping:
            inputs = [self.tensor("text_input", f"{number} {len(self.answers)}"),
                      self.tensor("sampling_parameters", sampling)]
            try:
                api.infer(self.cluster.replicas[0].model, inputs, client_timeout=60)
                self.answers.append(None)
            except InferenceServerException as error:
                self.answers.append(str(error))
        api.close()

    @staticmethod
    def tensor(name, text):
        tensor = triton.InferInput(name, [1], "BYTES")
        tensor.set_data_from_numpy(np.array([text.encode()], dtype=np.object_))
        return tensor
