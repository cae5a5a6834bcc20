"""Runs a nibbled for a test or a measurement, and makes the Python stubs of nibble.v1."""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("NIBBLE_CACHE") or pathlib.Path.home() / ".cache" / "nibble")
MODEL = CACHE / "smollm2.gguf"
TINY_MODEL = ROOT / "tests" / "golden" / "logits" / "tiny-llama-f32.gguf"  # answers in milliseconds
BIN = ROOT / os.environ.get("NIBBLE_BUILD", "build/release") / "bin"  # another build: NIBBLE_BUILD=build/asan


class Daemon:
    """A nibbled on free ports; ready once constructed."""

    def __init__(self, *flags, model=MODEL):
        command = [BIN / "nibbled", "--model", model, "--listen", "127.0.0.1:0", "--metrics",
                   "127.0.0.1:0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        ready = next((line for line in self.process.stdout if line.startswith("ready ")), None)
        if ready is None:
            raise RuntimeError(f"nibbled did not start: {self.process.communicate()[1].strip()}")
        self.ready = dict(word.split("=", 1) for word in ready.split()[1:])

    def terminate(self):
        """SIGTERM: the drain begins."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds=30):
        """The exit status, once it has ended."""
        self.process.communicate(timeout=seconds)
        return self.process.returncode

    def stop(self, seconds=30):
        self.terminate()
        return self.wait(seconds)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def make_stubs(folder):
    """Puts nibble/v1/*_pb2.py and *_pb2_grpc.py into `folder`."""
    import grpc_tools
    from grpc_tools import protoc

    protos = [str(path.relative_to(ROOT / "proto")) for path in sorted((ROOT / "proto").rglob("*.proto"))]
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    status = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={folder}",
                          f"--grpc_python_out={folder}", *protos])
    if status:
        raise RuntimeError("protoc failed")


def nibble_v1(test_class):
    """The modules generate_pb2 and inference_pb2_grpc, made for this class of tests."""
    folder = tempfile.TemporaryDirectory()
    test_class.addClassCleanup(folder.cleanup)
    make_stubs(folder.name)
    sys.path.insert(0, folder.name)
    test_class.addClassCleanup(sys.path.remove, folder.name)
    from nibble.v1 import generate_pb2, inference_pb2_grpc
    return generate_pb2, inference_pb2_grpc
