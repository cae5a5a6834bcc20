#!/usr/bin/env python3
"""The kernels on AArch64: all compile, and those of products, rows and softmax give there, under qemu, the bits they give
here (kernel_bits.cc). Those of the KV codecs, of calibration and of sampling are not run.

usage: neon_test.py --kernel-bits BINARY       (ctest runs it)
"""
import argparse
import concurrent.futures
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"
# As CMakeLists.txt has them for AArch64.
FLAGS = ("-std=c++20", "-O2", "-march=armv8.2-a+dotprod+crypto", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror",
         "-static", f"-I{ROOT}", "-idirafter", "/usr/include")
PROGRAM = ROOT / "tests/engine/backends/kernel_bits.cc"
LINKED = tuple(ROOT / "engine/backends/cpu" / f"{name}.cc" for name in (
    "attention_kernels", "delta_kernels", "matmul_kernels", "row_kernels", "row_rounding"))


def kernel_files():
    return [f for folder in ("engine", "kvcache") for f in sorted((ROOT / folder).rglob("*.cc"))
            if "hwy/foreach_target.h" in f.read_text(encoding="utf-8")]


def compile_all(folder):
    """Object files by source; raises where one does not compile."""
    def compile_one(source):
        made = folder / f"{source.stem}.o"
        subprocess.run([COMPILER, *FLAGS, "-c", source, "-o", made], check=True)
        return made

    sources = [PROGRAM, *kernel_files()]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(sources, pool.map(compile_one, sources)))


def lines_of(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel-bits", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        objects = compile_all(pathlib.Path(folder))
        program = pathlib.Path(folder) / "kernel_bits"
        subprocess.run([COMPILER, *FLAGS, *(objects[source] for source in (PROGRAM, *LINKED)), "-o", program], check=True)
        there = lines_of(EMULATOR, program)
    here = lines_of(args.kernel_bits)
    different = [f"{a}   here: {b}" for a, b in zip(there, here) if a != b]
    if different or len(there) != len(here) or not here:
        sys.exit("\n".join(different) or f"{len(there)} lines there, {len(here)} here")
    print(f"{len(objects)} files compile for AArch64; {len(here)} digests are the same")


if __name__ == "__main__":
    main()
