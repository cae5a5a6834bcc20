#!/usr/bin/env python3
"""Reads every #include and fails on an arrow the design forbids.

usage: layering_test.py      run from anywhere; checks the tree it lies in, after checking itself on made-up trees

    loadtest -> proto <- server -> scheduler -> engine -> kvcache        skipping down is allowed, up never

Inside engine/ the subfolders have an order too, so that no two include each other. Third-party libraries that belong to
one place are fenced there. Below server/ nothing logs and nothing reads a clock.
"""
import dataclasses
import pathlib
import re
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOP_FOLDERS = ("proto", "loadtest", "server", "scheduler", "engine", "kvcache")

# What the files of a folder may include of ours, beside their own folder. The longest prefix of a file's path decides.
MAY_INCLUDE = {
    "kvcache": (),
    "engine": ("kvcache",),
    "scheduler": ("engine", "kvcache"),
    "proto": (),
    "server": ("proto", "scheduler", "engine", "kvcache"),
    "loadtest": ("proto",),
}

# What lies in engine/, lowest first: each may include what is before it or beside it, so that no two include each other.
# The longest name that fits a path decides; "." is any other file of engine/ itself.
ENGINE_ORDER = (
    "tokenizer", "weights", "grammar", "sampling/params", "engine", "sampling", "quant", "adapters", "backends", "models", ".", "tools")

# Includes that belong to some folders alone.
FENCES = (
    (re.compile(r"(grpc|grpcpp|grpc\+\+|google/protobuf|prometheus)/"), ("server", "loadtest", "proto")),
    (re.compile(r"(cuda|cub/|cublas|mma\.h|nv)"), ("engine/backends/cuda",)),
    (re.compile(r"curl/"), ("loadtest",)),
    (re.compile(r"hwy/"), ("engine", "kvcache")),
    (re.compile(r"Eigen/"), ("engine/quant/calibration/eigen.h",)),  # which makes it sum alike on every machine
)

# Words that log or read a clock; not below server/. engine/tools is the command line: it prints and takes times.
BELOW_SERVER = ("scheduler", "engine", "kvcache")
EXCEPT = ("engine/tools", "kvcache/base/check.h")
CLOCKS_AND_LOGS = re.compile(
    r"(_clock::now|absl::Now\s*\(|GetCurrentTimeNanos|\bclock_gettime\s*\(|\bgettimeofday\s*\(|(?<![\w.>:])(std::)?time\s*\(|"
    r"std::c(err|log|out)\b|\bLOG\s*\(|\bf?printf\s*\(|\bfputs\s*\()")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]', re.MULTILINE)
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Source:
    path: str  # from the root, with slashes
    text: str

    @property
    def folder(self):
        return self.path.rpartition("/")[0]

    @property
    def top(self):
        return self.path.partition("/")[0]

    def includes(self):
        return [name for _, name in INCLUDE.findall(self.text)]


def under(path, folder):
    return path == folder or path.startswith(folder + "/")


def ours(include):
    """The path from the root that an include means, or None for a library's."""
    if include.startswith("nibble/v1/"):
        return "proto/" + include
    return include if include.partition("/")[0] in TOP_FOLDERS + ("tests",) else None


def engine_rank(path):
    """Where in ENGINE_ORDER a path of engine/ lies; None for a subfolder that has no place yet."""
    name = path.removeprefix("engine/").rpartition(".")[0]
    fitting = [place for place in ENGINE_ORDER if under(name, place)]
    if not fitting:
        return None if "/" in name else ENGINE_ORDER.index(".")
    return ENGINE_ORDER.index(max(fitting, key=len))


def arrow_fault(source, include):
    target = ours(include)
    if target is None:
        return None
    to = target.partition("/")[0]
    if to != source.top:
        return None if to in MAY_INCLUDE[source.top] else f"{source.top} must not include {to}"
    if to != "engine":
        return None
    here, there = engine_rank(source.path), engine_rank(target)
    if here is None or there is None:
        return "one of the two has no place in ENGINE_ORDER"
    return None if there <= here else f"{ENGINE_ORDER[here]} of engine/ must not include {ENGINE_ORDER[there]}"


def fence_fault(source, include):
    for pattern, folders in FENCES:
        if ours(include) is None and pattern.match(include) and not any(under(source.path, f) for f in folders):
            return f"<{include}> belongs to {', '.join(folders)}"
    return None


def clock_faults(source):
    if source.top not in BELOW_SERVER or any(under(source.path, e) for e in EXCEPT):
        return
    code = COMMENT_OR_STRING.sub("", source.text)
    for word in CLOCKS_AND_LOGS.finditer(code):
        yield f"{word.group(0).strip()}: below server/ nothing logs or reads a clock"


def faults(sources):
    for source in sources:
        for include in source.includes():
            for fault in (arrow_fault(source, include), fence_fault(source, include)):
                if fault:
                    yield f"{source.path}: #include {include}: {fault}"
        for fault in clock_faults(source):
            yield f"{source.path}: {fault}"


def read_tree(root):
    for top in TOP_FOLDERS:
        for path in sorted((root / top).rglob("*")):
            if path.suffix in (".h", ".cc", ".cu", ".cuh", ".inc"):
                yield Source(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))


class TheTree(unittest.TestCase):
    def test_holds_sources(self):
        folders = {source.top for source in read_tree(ROOT)}
        self.assertGreaterEqual(folders, set(TOP_FOLDERS) - {"proto"})

    def test_arrows_and_fences(self):
        found = list(faults(read_tree(ROOT)))
        self.assertFalse(found, "\n" + "\n".join(found))


class MadeUpTrees(unittest.TestCase):
    """Negative controls: each forbidden thing is flagged, each allowed one is not."""

    def faults_of(self, path, text):
        with tempfile.TemporaryDirectory() as root:
            file = pathlib.Path(root) / path
            file.parent.mkdir(parents=True)
            file.write_text(text)
            return list(faults(read_tree(pathlib.Path(root))))

    def assert_flagged(self, path, text):
        self.assertEqual(len(self.faults_of(path, text)), 1, f"{path}: {text}")

    def assert_clean(self, path, text):
        self.assertEqual(self.faults_of(path, text), [], f"{path}: {text}")

    def test_arrows_up_are_flagged(self):
        for path, include in (
            ("kvcache/a.h", "engine/engine.h"), ("engine/a.cc", "scheduler/request.h"), ("scheduler/a.cc", "server/a.h"),
            ("engine/weights/a.cc", "server/a.h"), ("server/a.cc", "loadtest/stats.h"), ("loadtest/a.cc", "engine/engine.h"),
            ("loadtest/a.cc", "server/a.h"), ("scheduler/a.cc", "nibble/v1/generate.pb.h"), ("engine/a.cc", "tests/a.h"),
        ):
            self.assert_flagged(path, f'#include "{include}"\n')

    def test_arrows_down_are_not(self):
        for path, include in (
            ("engine/a.cc", "kvcache/page.h"), ("server/a.cc", "kvcache/page.h"), ("server/a.cc", "nibble/v1/generate.pb.h"),
            ("loadtest/a.cc", "nibble/v1/generate.pb.h"), ("scheduler/a.cc", "engine/engine.h"), ("scheduler/a.cc", "vector"),
        ):
            self.assert_clean(path, f'#include "{include}"\n')

    def test_engine_subfolders_are_ordered(self):
        self.assert_flagged("engine/weights/a.cc", '#include "engine/models/llama.h"\n')
        self.assert_flagged("engine/backends/cpu/a.cc", '#include "engine/tools/bench.h"\n')
        self.assert_flagged("engine/new_place/a.cc", '#include "engine/weights/a.h"\n')
        self.assert_flagged("engine/weights/a.cc", '#include "engine/models/config_gguf.h"\n')
        self.assert_flagged("engine/models/a.cc", '#include "engine/cpu_engine.h"\n')
        self.assert_flagged("engine/a.cc", '#include "engine/tools/bench.h"\n')
        self.assert_clean("engine/tools/a.cc", '#include "engine/models/config.h"\n')
        self.assert_clean("engine/sampling/sampler.h", '#include "engine/engine.h"\n')
        self.assert_clean("engine/cpu_engine.cc", '#include "engine/models/model.h"\n')
        self.assert_clean("engine/backends/cpu/a.cc", '#include "engine/backends/backend.h"\n')

    def test_fences(self):
        for path, include in (
            ("scheduler/a.cc", "grpcpp/grpcpp.h"), ("engine/a.cc", "google/protobuf/message.h"),
            ("kvcache/a.cc", "prometheus/registry.h"), ("engine/backends/cpu/a.cc", "cuda_runtime.h"),
            ("engine/a.cc", "cub/cub.cuh"), ("server/a.cc", "curl/curl.h"),
            ("engine/quant/calibration/klt.cc", "Eigen/Dense"),
        ):
            self.assert_flagged(path, f"#  include <{include}>\n")
        self.assert_clean("server/a.cc", "#include <grpcpp/grpcpp.h>\n")
        self.assert_clean("engine/backends/cuda/a.cu", "#include <cuda_runtime.h>\n")

    def test_clocks_and_logs_below_server(self):
        for code in ("auto t = std::chrono::steady_clock::now();", "std::cerr << 1;", "absl::Now();", "LOG(INFO) << 1;",
                     "x = time(nullptr);", "std::time(0);", "clock_gettime(0, &t);", 'std::fprintf(stderr, "x");'):
            self.assert_flagged("scheduler/a.cc", code)
            self.assert_clean("server/a.cc", code)
            self.assert_clean("engine/tools/a.cc", code)

    def test_words_that_only_look_like_clocks(self):
        for code in ("Nanos queue_time(0);", "r.time();", "// std::cerr is not used", 'Error("printf(");',
                     "snprintf(buffer, 1, f);"):
            self.assert_clean("engine/a.cc", code)


if __name__ == "__main__":
    unittest.main()
