#!/usr/bin/env python3
"""Runs the steps of deploy/Dockerfile in chroots made by debootstrap, then the image as Kubernetes would: another user,
no capabilities, a read-only root. For machines without a Docker engine; as root, a quarter of an hour where nothing is
built yet.

usage: image_check.py [--target nibbled|gateway]

Reads of the Dockerfile's language what that file uses: ARG, FROM .. AS, WORKDIR, COPY [--from], RUN, USER, EXPOSE,
ENTRYPOINT. Chroots lie in build/image/; the base and a compiler cache stay there for the next run.
"""
import argparse
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "image"
CACHE = pathlib.Path(os.environ.get("NIBBLE_CACHE") or pathlib.Path.home() / ".cache" / "nibble")
# What a step needs of this machine to reach its package registries: files that are here, and where they are there.
BORROWED = {"/etc/resolv.conf": "/etc/resolv.conf", "/etc/pip.conf": "/etc/pip.conf",
            os.environ.get("PIP_CERT", ""): "/run/certificates.pem"}
# Docker's, and what makes the borrowed files known.
ENVIRONMENT = ("HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" +
               (" PIP_CERT=/run/certificates.pem" if "PIP_CERT" in os.environ else ""))


def instructions(text):
    """(word, rest) of each instruction, continued lines joined."""
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        yield word, " ".join(rest.split())


class Stage:
    """One FROM: a root filesystem and what the image says of itself."""

    def __init__(self, name, base):
        self.root, self.workdir, self.user, self.entrypoint = WORK / name, "/", "0:0", []
        shutil.rmtree(self.root, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", base, self.root], check=True)

    def inside(self, script, **options):
        """Runs a shell script in the root, in namespaces whose mounts go with it."""
        wrapped = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-ec", script]
        return subprocess.Popen(wrapped, stdin=subprocess.DEVNULL, **options)

    def run(self, command):
        root = shlex.quote(str(self.root))
        cache = self.root / "root" / ".cache" / "ccache"
        mounts = [f"mount -t proc proc {root}/proc", f"mount --bind /dev {root}/dev"]
        for path in filter(os.path.exists, BORROWED):
            place = self.root / BORROWED[path].lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
            mounts.append(f"mount --bind {path} {shlex.quote(str(place))}")
        cache.mkdir(parents=True, exist_ok=True)
        mounts.append(f"mount --bind {shlex.quote(str(ccache_folder()))} {shlex.quote(str(cache))}")
        step = f"cd {self.workdir} && {command}"
        mounts.append(f"exec chroot {root} /usr/bin/env -i {ENVIRONMENT} /bin/sh -ec {shlex.quote(step)}")
        if self.inside("\n".join(mounts)).wait():
            raise SystemExit(f"image_check: failed: RUN {command}")

    def copy(self, sources, target, source_root):
        place = self.root / os.path.join(self.workdir, target).lstrip("/")
        folder = target.endswith("/") or target == "." or len(sources) > 1
        (place if folder else place.parent).mkdir(parents=True, exist_ok=True)
        for source in sources:
            path = source_root / source.lstrip("/")
            subprocess.run(["cp", "-a", f"{path}/." if path.is_dir() else path, place], check=True)


def ccache_folder():
    folder = WORK / "ccache"
    folder.mkdir(exist_ok=True)
    return folder


def context():
    """What the build sees: the tracked files, as they are now."""
    folder = WORK / "context"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run("git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | "
                   f"tar --extract --directory={shlex.quote(str(folder))}", cwd=ROOT, shell=True, check=True)
    return folder


def base():
    folder = WORK / "base"
    if not (folder / "bin" / "sh").exists():
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", folder], check=True)
    return folder


def wanted_stages(steps, target):
    """The target and every stage that it copies from."""
    needs, name = {}, None
    for word, rest in steps:
        if word == "FROM":
            name = rest.split(" AS ")[1]
            needs[name] = set()
        elif word == "COPY" and rest.startswith("--from="):
            needs[name].add(rest.split()[0].removeprefix("--from="))
    return {target} | needs[target]


def build(target):
    steps = list(instructions((ROOT / "deploy" / "Dockerfile").read_text()))
    wanted, stages, tree, stage = wanted_stages(steps, target), {}, context(), None
    for word, rest in steps:
        if word == "FROM":
            name = rest.split(" AS ")[1]
            stage = stages[name] = Stage(name, base()) if name in wanted else None
        elif word == "ARG" or stage is None:
            continue
        elif word == "COPY":
            words = rest.split()
            source = stages[words.pop(0).removeprefix("--from=")].root if words[0].startswith("--from=") else tree
            stage.copy(words[:-1], words[-1], source)
        elif word == "RUN":
            print(f"RUN {rest}", flush=True)
            stage.run(rest)
        elif word == "WORKDIR":
            stage.workdir = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = rest
        elif word == "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        elif word != "EXPOSE":
            raise SystemExit(f"image_check: the Dockerfile has {word}, which this check does not know")
    return stages[target]


def start(stage, *arguments):
    """The image's entry point as the manifests have it run."""
    root, models = shlex.quote(str(stage.root)), shlex.quote(str(CACHE))
    (stage.root / "models").mkdir(exist_ok=True)
    uid, gid = stage.user.split(":")
    assert int(uid) > 0 and int(gid) > 0, "the image runs as root"
    command = shlex.join([*stage.entrypoint, *arguments])
    return stage.inside("\n".join([
        f"mount --bind {root} {root}", f"mount -t proc proc {root}/proc", f"mount --bind {models} {root}/models",
        f"mount -t tmpfs tmpfs {root}/tmp", f"mount -o remount,bind,ro {root}/models",
        f"mount -o remount,bind,ro {root}",
        # Neither the root nor the models can be written.
        f"! touch {root}/written 2>/dev/null", f"! touch {root}/models/written 2>/dev/null",
        f"exec chroot {root} /usr/bin/setpriv --reuid {uid} --regid {gid} --clear-groups --bounding-set=-all "
        f"--inh-caps=-all --no-new-privs {command}"]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def check_nibbled(stage):
    process = start(stage, "--model=/models/smollm2.gguf", "--listen=127.0.0.1:0", "--metrics=127.0.0.1:0")
    try:
        ready = next((line for line in process.stdout if line.startswith("ready ")), None)
        assert ready, "nibbled did not start"
        address = re.search(r"grpc=(\S+)", ready)[1]
        chat = ["chroot", "--userspec", stage.user, str(stage.root), "/usr/local/bin/nibble", "chat",
                "--server", address, "--max-tokens", "8", "--temperature", "0", "Hello!"]
        answer = subprocess.run(chat, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
        assert answer, "no answer"
        print(f"answer: {answer}")
        stop(process)
    finally:
        process.kill()
    files = subprocess.run(["du", "-sm", stage.root], capture_output=True, text=True).stdout.split()[0]
    print(f"image: {files} MiB")


def stop(process):
    """SIGTERM to the daemon, the only child of the namespaces; it must end by itself with 0."""
    child = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
    os.kill(int(child), 15)
    assert process.wait(30) == 0, f"exit status {process.returncode}"


def check_gateway(stage):
    process = start(stage, "--help")
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "launch" in text, text[-500:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=("nibbled", "gateway"), default="nibbled")
    args = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("image_check: needs root, for chroots")
    WORK.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    stage = build(args.target)
    {"nibbled": check_nibbled, "gateway": check_gateway}[args.target](stage)
    print(f"{args.target}: built and run in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
