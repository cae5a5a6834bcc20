#!/usr/bin/env python3
"""Holds deploy/packages.txt against the tree: what an #include or a script needs must be on the list.

usage: packages_test.py      run from anywhere

A header or a program that no row below knows fails too: add its row here and its package there.
"""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "deploy" / "packages.txt"

# The beginning of an include -> its package. The first row that matches decides.
HEADERS = (
    (r"(nibble/v1|vllm|kserve)/.*\.grpc\.pb\.h", "protobuf-compiler-grpc"),
    (r"nibble/(v1|config)/|vllm/|smg/|kserve/|google/protobuf/", "protobuf-compiler"),
    (r"grpc|grpcpp/", "libgrpc++-dev"),
    (r"absl/", "libabsl-dev"),
    (r"prometheus/", "prometheus-cpp-dev"),
    (r"hwy/", "libhwy-dev"),
    (r"Eigen/", "libeigen3-dev"),
    (r"pcre2\.h", "libpcre2-dev"),
    (r"nlohmann/", "nlohmann-json3-dev"),
    (r"openssl/", "libssl-dev"),
    (r"zip\.h", "libzip-dev"),
    (r"curl/", "libcurl4-openssl-dev"),
    (r"gtest/", "libgtest-dev"),
    (r"gmock/", "libgmock-dev"),
    (r"benchmark/", "libbenchmark-dev"),
    (r"civetweb\.h|CivetServer\.h", "libcivetweb-dev"),
    # The compiler's and the C library's.
    (r"[a-z_0-9]+$|(sys|arpa|netinet|linux|sanitizer|asm)/", "g++"),
    (r"(dirent|dlfcn|errno|fcntl|immintrin|malloc|netdb|poll|pthread|sched|signal|spawn|unistd)\.h", "g++"),
)

# What a script or a build file says -> the package that brings the program.
PROGRAMS = (
    (r"clang\+\+-14", "clang-14"),
    (r"clang-format-14", "clang-format-14"),
    (r"-fsanitize=fuzzer", "libclang-rt-14-dev"),
    (r'"Ninja"', "ninja-build"),
    (r"cmake_minimum_required", "cmake"),
    (r"\bccache\b", "ccache"),
    (r"\bpip\b", "python3-pip"),
    (r"-m venv", "python3-venv"),
    (r"\bprometheus\b", "prometheus"),
    (r"\bopenssl\b", "openssl"),
    (r"\bdebootstrap\b", "debootstrap"),
    (r'"chromium"', "chromium"),
    (r'"aarch64-linux-gnu-g\+\+"', "g++-aarch64-linux-gnu"),
    (r'"qemu-aarch64-static"', "qemu-user-static"),
    (r'"ip", "link"', "iproute2"),
    (r"\bpython3\b", "python3"),
    (r"grpc_cpp_plugin", "protobuf-compiler-grpc"),
    (r"protobuf::protoc", "protobuf-compiler"),
)
SCRIPTS = ("CMakeLists.txt", "CMakePresets.json", "proto/CMakeLists.txt", "tests/CMakeLists.txt", "tests/run.sh",
           "tests/format_test.py", "deploy/quickstart.sh", "deploy/fetch_model.py", "deploy/local-cluster.sh",
           "deploy/local_cluster.py", "tests/deploy/image_check.py", "tests/loadtest/page_test.py",
           "tests/conformance/half_open_peer.py", "tests/engine/backends/neon_test.py")

OUR_FOLDERS = ("server", "scheduler", "engine", "kvcache", "loadtest", "tests")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)


def listed(include_tests):
    lines = LIST.read_text().splitlines()
    kept = [line for line in lines if include_tests or not re.search("# (tests|cluster)", line)]
    return {line.partition("#")[0].strip() for line in kept} - {""}


def package_of(include):
    return next((package for pattern, package in HEADERS if re.match(pattern, include)), None)


def third_party_includes(folders):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".h", ".cc"):
                continue
            local = {p.name for p in path.parent.iterdir()}
            for include in INCLUDE.findall(path.read_text(encoding="utf-8")):
                if include.partition("/")[0] not in OUR_FOLDERS and include not in local:
                    yield path.relative_to(ROOT), include


class Packages(unittest.TestCase):
    def assert_listed(self, folders, packages):
        for path, include in third_party_includes(folders):
            package = package_of(include)
            self.assertIsNotNone(package, f"{path}: <{include}>: no row of HEADERS knows it")
            self.assertIn(package, packages, f"{path}: <{include}> needs {package} in deploy/packages.txt")

    def test_what_the_product_includes_is_listed_for_the_quickstart(self):
        self.assert_listed([f for f in OUR_FOLDERS if f != "tests"], listed(include_tests=False))

    def test_what_the_tests_include_is_listed(self):
        self.assert_listed(["tests"], listed(include_tests=True))

    def test_programs_that_scripts_call_are_listed(self):
        for script in SCRIPTS:
            text = (ROOT / script).read_text()
            for pattern, package in PROGRAMS:
                if re.search(pattern, text):
                    self.assertIn(package, listed(include_tests=True), f"{script} uses {pattern}")

    def test_no_line_is_useless(self):
        everywhere = [package_of(i) for _, i in third_party_includes(OUR_FOLDERS)]
        scripts = "".join((ROOT / script).read_text() for script in SCRIPTS)
        called = [package for pattern, package in PROGRAMS if re.search(pattern, scripts)]
        # Linked or called, but never included by name.
        implied = {"libprotobuf-dev", "ca-certificates"}
        self.assertEqual(listed(include_tests=True) - set(everywhere) - set(called) - implied, set())

    def test_a_header_of_an_unknown_library_is_noticed(self):
        self.assertIsNone(package_of("boost/asio.hpp"))
        self.assertIsNone(package_of("zlib.h"))
        self.assertEqual(package_of("vector"), "g++")
        self.assertEqual(package_of("hwy/highway.h"), "libhwy-dev")


if __name__ == "__main__":
    unittest.main()
