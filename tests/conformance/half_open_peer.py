#!/usr/bin/env python3
"""A daemon whose client's link dies in mid-stream, without a FIN: prints the seconds until the daemon ended the stream.

usage: unshare --map-root-user --net half_open_peer.py REQUEST     its body, in hexadecimal

Daemon and client are in network namespaces of their own, joined by a veth pair.
"""
import contextlib
import os
import signal
import subprocess
import sys
import time

import daemon as daemons
import universal
from http2_client import Connection, fields, message

NEAR, FAR = "10.77.0.1", "10.77.0.2"
GIVE_UP_SECONDS = 60


def run(*command):
    subprocess.run(command, check=True, timeout=10)


@contextlib.contextmanager
def other_side():
    """Makes the link; the command that enters the namespace at its other end."""
    run("ip", "link", "set", "lo", "up")
    holder = subprocess.Popen(["unshare", "--net", "sleep", "120"])
    try:
        namespace = f"/proc/{holder.pid}/ns/net"
        while os.readlink(namespace) == os.readlink("/proc/self/ns/net"):
            time.sleep(0.01)
        enter = ["nsenter", f"--net={namespace}"]
        run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(holder.pid))
        for address, device, prefix in ((NEAR, "near", []), (FAR, "far", enter)):
            run(*prefix, "ip", "address", "add", f"{address}/24", "dev", device)
            run(*prefix, "ip", "link", "set", device, "up")
        yield enter
    finally:
        holder.kill()
        holder.wait()


def read_answer(address, request):
    """The client: says so once tokens come, and reads on."""
    with Connection(address) as connection:
        headers = connection.open(fields())
        connection.send(headers)
        connection.send_body(headers.stream_id, message(bytes.fromhex(request)))
        connection.read(30, lambda: headers.stream_id in connection.answers)
        print("streaming", flush=True)
        while not connection.closed:
            connection.read(1)  # the window of 64 KiB is more than comes before the link dies


def measure(request):
    with other_side() as enter, contextlib.ExitStack() as stack:
        daemon = daemons.Daemon("--threads=1", f"--listen={NEAR}:0")
        stack.callback(daemon.kill)
        client = subprocess.Popen([*enter, sys.executable, "-B", __file__, "--client", daemon.ready["grpc"], request],
                                  stdout=subprocess.PIPE, text=True)
        stack.callback(client.wait)
        stack.callback(client.send_signal, signal.SIGKILL)
        if client.stdout.readline() != "streaming\n":
            raise RuntimeError("no stream began")
        metrics = daemon.ready["metrics"]
        while universal.figure(metrics, "vllm:num_requests_running") != 1:
            time.sleep(0.01)
        run(*enter, "ip", "link", "set", "far", "down")
        start = time.monotonic()
        while universal.figure(metrics, "vllm:num_requests_running") and time.monotonic() < start + GIVE_UP_SECONDS:
            time.sleep(0.1)
        seconds = time.monotonic() - start
        if (used := universal.figure(metrics, "vllm:kv_cache_usage_perc")) != 0:
            raise RuntimeError(f"KV pages in use: {used}")
        print(seconds, int(universal.figure(metrics, 'nibble_cancelled_total{cause="client"')))


if __name__ == "__main__":
    if sys.argv[1] == "--client":
        read_answer(*sys.argv[2:])
    else:
        measure(sys.argv[1])
