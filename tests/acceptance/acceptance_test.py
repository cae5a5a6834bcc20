#!/usr/bin/env python3
"""Real clients against running daemons: gRPC's own promises, tritonclient, and openai's client through the SMG gateway.

Needs the packages of requirements.txt, a built nibbled (NIBBLE_BUILD, or build/release) and the models that tests/run.sh
fetches in ${NIBBLE_CACHE:-~/.cache/nibble}. Each script beside this file checks one client and runs by hand against any
server: grpc_basics.py, oip_client.py, smg_chat.py, tokenizer_files.py.
"""
import os
import pathlib
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "conformance"))
sys.dont_write_bytecode = True
import daemon as daemons

# The gateway is to take the tokenizer from the daemon, and never to ask a hub for it.
ENVIRONMENT = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONDONTWRITEBYTECODE": "1"}

# Each daemon is to have streams when one goes; then the second request of two with one prefix is not where the first was.
TURNS = ("--policy", "round_robin", "--no-prefix-cache")


class Acceptance(unittest.TestCase):
    def daemon(self, model, *flags):
        started = daemons.Daemon("--served-model-name", "served", *flags, model=daemons.CACHE / f"{model}.gguf")
        self.addCleanup(started.kill)
        return started

    def accept(self, script, *arguments):
        run = subprocess.run([sys.executable, HERE / script, *map(str, arguments), "--model", "served", "-v"],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, env=ENVIRONMENT)
        self.assertEqual(run.returncode, 0, run.stdout[-4000:])

    def test_grpc_basics(self):
        self.accept("grpc_basics.py", self.daemon("smollm2").ready["grpc"])

    def test_tokenizer_files(self):
        for model in ("smollm2", "qwen2.5-coder-0.5b", "gemma3-270m"):
            with self.subTest(model):
                self.accept("tokenizer_files.py", self.daemon(model).ready["grpc"], "--nibble", daemons.BIN / "nibble",
                            "--model-file", daemons.CACHE / f"{model}.gguf")

    def test_tritonclient(self):
        self.accept("oip_client.py", self.daemon("smollm2").ready["grpc"])

    def test_openai_through_smg_to_one_daemon(self):
        self.accept("smg_chat.py", self.daemon("qwen2.5-coder-0.5b").ready["grpc"])

    def test_openai_through_smg_while_one_of_two_daemons_drains(self):
        kept, drained = (self.daemon("qwen2.5-coder-0.5b", "--threads", "1") for _ in range(2))
        self.accept("smg_chat.py", kept.ready["grpc"], drained.ready["grpc"], *TURNS, "--drain-pid", drained.process.pid)

    def test_openai_through_smg_while_one_of_two_daemons_dies(self):
        kept, killed = (self.daemon("qwen2.5-coder-0.5b", "--threads", "1") for _ in range(2))
        self.accept("smg_chat.py", kept.ready["grpc"], killed.ready["grpc"], *TURNS, "--kill-pid", killed.process.pid)


if __name__ == "__main__":
    unittest.main()
