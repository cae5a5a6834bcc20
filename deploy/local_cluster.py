#!/usr/bin/env python3
"""The replicated system on one machine: daemons, gateway, edge, Prometheus; local-cluster.sh prepares and runs it.

The edge runs deploy/kubernetes/base/envoy.yaml with other addresses, and Prometheus the rules of deploy/alerts.yml, so
that what is tried here is what is deployed. Logs and generated files lie in build/local-cluster/.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
BASE = HERE / "kubernetes" / "base"
CACHE = pathlib.Path(os.environ.get("NIBBLE_CACHE") or pathlib.Path.home() / ".cache" / "nibble")


class ClusterError(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ClusterError(f"{what}: not within {seconds} s")
        time.sleep(0.05)


def get(url):
    """The body, or None where it is not answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.read().decode()
    except OSError:
        return None


class Program:
    """One child process at a time, in a session of its own so that Ctrl-C leaves the order of stopping to us."""

    def __init__(self, name, command, folder, environment=None):
        self.name, self.command, self.process = name, [str(word) for word in command], None
        self.log, self.environment = folder / f"{name}.log", {**os.environ, **(environment or {})}

    def start(self, **pipes):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL, stderr=log,
                                            start_new_session=True, **{"stdout": log, **pipes})

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.alive():
            self.process.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self, seconds=70):
        """SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds) if self.process else 0
        except subprocess.TimeoutExpired:
            self.kill()
            raise ClusterError(f"{self.name} did not stop within {seconds} s") from None


class Replica(Program):
    """A nibbled. Its first start picks free ports, later ones take the same again."""

    def __init__(self, name, nibbled, model, flags, folder):
        super().__init__(name, [nibbled, "--model", model, *flags], folder)
        self.grpc = self.metrics = "127.0.0.1:0"
        self.unbound = list(self.command)

    def start(self):
        self.command = [*self.unbound, "--listen", self.grpc, "--metrics", self.metrics]
        super().start(stdout=subprocess.PIPE, text=True)
        line = next((line for line in self.process.stdout if line.startswith("ready ")), None)
        self.process.stdout.close()
        if line is None:
            raise ClusterError(f"{self.name} did not start; see {self.log}")
        words = dict(word.split("=", 1) for word in line.split()[1:])
        self.grpc, self.metrics, self.model = words["grpc"], words["metrics"], words["model"]


def gateway(folder, workers, policy, port, metrics_port):
    beside = pathlib.Path(sys.executable).with_name("smg")
    # The tokenizer comes from a daemon: the hub that the gateway would ask first is a closed port.
    return Program("gateway", [
        beside, "launch", "--host", "127.0.0.1", "--port", port, "--policy", policy,
        "--prometheus-host", "127.0.0.1", "--prometheus-port", metrics_port,
        "--worker-urls", *(f"grpc://{worker}" for worker in workers), "--worker-startup-check-interval", 1,
        "--health-check-interval-secs", 1, "--health-failure-threshold", 2, "--load-monitor-interval", 1,
    ], folder, {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_COLOR": "1"})


def self_signed(folder):
    """Makes tls.crt and tls.key for localhost."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", folder / "tls.key", "-out", folder / "tls.crt"], check=True, capture_output=True)


def endpoints(addresses):
    split = (address.rsplit(":", 1) for address in addresses)
    return [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
                              for host, port in split]}]


def write_edge_config(folder, ports, addresses):
    """The base's files for Envoy, with listeners at `ports` (by name) and clusters of `addresses` (by name)."""
    text = {name: (BASE / name).read_text().replace("/etc/envoy-tls", str(folder)).replace("/etc/envoy", str(folder))
            for name in ("envoy.yaml", "envoy-workers.yaml", "envoy-tls.yaml")}
    config, workers = yaml.safe_load(text["envoy.yaml"]), yaml.safe_load(text["envoy-workers.yaml"])
    config["admin"]["address"]["socket_address"]["port_value"] = ports["admin"]
    for listener in config["static_resources"]["listeners"]:
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": ports[listener["name"]]}
    for cluster in config["static_resources"]["clusters"] + workers["resources"]:
        cluster["load_assignment"]["endpoints"] = endpoints(addresses[cluster["name"]])
    (folder / "envoy.yaml").write_text(yaml.safe_dump(config))
    (folder / "envoy-workers.yaml").write_text(yaml.safe_dump(workers))
    (folder / "envoy-tls.yaml").write_text(text["envoy-tls.yaml"])


def edge(folder):
    beside = pathlib.Path(sys.executable).with_name("envoy")
    return Program("edge", [beside, "-c", folder / "envoy.yaml", "--concurrency", 1, "--use-dynamic-base-id",
                            "--log-level", "warning"], folder)


def prometheus(folder, port, targets):
    """None where the program is not on this machine. `targets`: addresses by job."""
    program = shutil.which("prometheus")
    if program is None:
        return None
    config = {"global": {"scrape_interval": "2s", "evaluation_interval": "2s"},
              "rule_files": [str(HERE / "alerts.yml")],
              "scrape_configs": [{"job_name": job, "static_configs": [{"targets": list(addresses)}]}
                                 for job, addresses in targets.items()]}
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    return Program("prometheus", [program, f"--config.file={path}", f"--storage.tsdb.path={folder / 'prometheus'}",
                                  f"--web.listen-address=127.0.0.1:{port}"], folder)


class Cluster:
    """start() returns once the edge answers for every replica; stop() ends all of it, the edge first."""

    def __init__(self, folder, nibbled, model, replicas=2, policy="cache_aware", port=0, flags=()):
        self.folder = folder
        self.policy, self.ports = policy, {"openai": port or free_port()}
        for name in ("grpc", "status", "admin", "gateway", "gateway-metrics", "prometheus"):
            self.ports[name] = free_port()
        self.replicas = [Replica(f"nibbled-{i}", nibbled, model, flags, folder) for i in range(replicas)]
        self.gateway = self.edge = self.prometheus = None

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        for replica in self.replicas:
            replica.start()
        workers = [replica.grpc for replica in self.replicas]
        self.gateway = gateway(self.folder, workers, self.policy, self.ports["gateway"], self.ports["gateway-metrics"])
        self.gateway.start()
        self_signed(self.folder)
        addresses = {"gateway": [self.address("gateway")], "workers": workers, "admin": [self.address("admin")]}
        write_edge_config(self.folder, self.ports, addresses)
        self.edge = edge(self.folder)
        self.edge.start()
        self.prometheus = prometheus(self.folder, self.ports["prometheus"], {
            "nibbled": [replica.metrics for replica in self.replicas],
            "gateway": [self.address("gateway-metrics")], "edge": [self.address("status")]})
        if self.prometheus:
            self.prometheus.start()
        self.wait_ready()

    def address(self, name):
        return f"127.0.0.1:{self.ports[name]}"

    def wait_ready(self):
        wait_until("the gateway and its workers", lambda: self.healthy_workers() == len(self.replicas))
        wait_until("the edge", lambda: get(f"http://{self.address('status')}/ready") is not None)
        wait_until("the edge's way to the gateway", self.edge_sees_gateway)

    def edge_sees_gateway(self):
        clusters = get(f"http://{self.address('admin')}/clusters") or ""
        return "gateway::" in clusters and "health_flags::/failed" not in clusters

    def healthy_workers(self):
        """Workers that the gateway would send requests to; 0 until it has the tokenizer too."""
        readiness = get(f"http://{self.address('gateway')}/readiness")
        return json.loads(readiness).get("healthy_workers", 0) if readiness else 0

    def stop(self):
        """Ends everything, whatever of it runs; raises for the first that did not stop by itself."""
        with contextlib.ExitStack() as stack:
            for replica in self.replicas:
                stack.callback(replica.stop)
            for program in (self.gateway, self.prometheus, self.edge):
                if program:
                    stack.callback(program.stop)


def usage(cluster):
    url = f"https://localhost:{cluster.ports['openai']}/v1"
    certificate = cluster.folder / "tls.crt"
    rows = [("OpenAI API", url), ("gRPC, TLS", f"localhost:{cluster.ports['grpc']}")]
    rows += [(replica.name, f"{replica.grpc}, metrics {replica.metrics}") for replica in cluster.replicas]
    rows.append(("Prometheus", f"http://{cluster.address('prometheus')}" if cluster.prometheus else
                 "not installed (Debian's package prometheus)"))
    rows += [("certificate", str(certificate)), ("logs", str(cluster.folder))]
    body = json.dumps({"model": cluster.replicas[0].model, "stream": True, "max_tokens": 64,
                       "messages": [{"role": "user", "content": "Tell me about the sea in two sentences."}]})
    return "\n".join([*(f"{name:12} {value}" for name, value in rows), "ask:",
                      f"  curl -N --cacert {certificate} {url}/chat/completions -H 'Content-Type: application/json' "
                      f"-d '{body}'"])


def main():
    parser = argparse.ArgumentParser(prog="local-cluster.sh", allow_abbrev=False)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--model", type=pathlib.Path, default=CACHE / "smollm2.gguf")
    parser.add_argument("--policy", default="cache_aware")
    parser.add_argument("--port", type=int, default=8443)
    parser.add_argument("flags", nargs="*", metavar="NIBBLED FLAG")
    args = parser.parse_args()
    if args.replicas < 1:
        parser.error("--replicas: must be at least 1")
    folder = ROOT / "build" / "local-cluster"
    cluster = Cluster(folder, ROOT / "build" / "release" / "bin" / "nibbled", args.model, args.replicas, args.policy,
                      args.port, args.flags)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cluster.start()
        print(usage(cluster), flush=True)
        signal.pause()
    except KeyboardInterrupt:
        return 0
    except (ClusterError, OSError) as error:
        print(f"local-cluster: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.stop()


if __name__ == "__main__":
    sys.exit(main())
