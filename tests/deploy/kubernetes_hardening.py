"""The lines of "Kubernetes hardening" as checks of rendered manifests, and what each must notice.

A check raises AssertionError where the objects do not keep its line.
"""
import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
NAME = "app.kubernetes.io/name"
LOCKED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def quantity(text):
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
    return float(number) * (UNITS[unit] if unit else 1)


def cpus(text):
    return float(text[:-1]) / 1000 if str(text).endswith("m") else float(text)


class Objects:
    """Rendered objects, by kind and name."""

    def __init__(self, objects):
        self.all = objects

    def kind(self, kind):
        return [o for o in self.all if o["kind"] == kind]

    def get(self, kind, name="nibbled"):
        return next(o for o in self.kind(kind) if re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", o["metadata"]["name"]))

    def pod(self, name="nibbled"):
        return self.get("Deployment", name)["spec"]["template"]["spec"]

    def daemon(self):
        return self.pod()["containers"][0]

    def annotation(self, name):
        return self.get("Deployment")["spec"]["template"]["metadata"]["annotations"][name]

    def flag(self, name):
        return next((a.split("=", 1)[1] for a in self.daemon()["args"] if a.startswith(f"--{name}=")), None)

    def envoy(self, name="envoy.yaml"):
        return yaml.safe_load(self.get("ConfigMap", "edge-config")["data"][name])

    def managers(self):
        """Envoy's HTTP connection managers, by listener."""
        return {listener["name"]: listener["filter_chains"][0]["filters"][-1]["typed_config"]
                for listener in self.envoy()["static_resources"]["listeners"]}


def must(condition, what):
    if not condition:
        raise AssertionError(what)


def seconds(text):
    return float(text.removesuffix("s"))


def check_ports(o):
    must({p["containerPort"] for p in o.daemon()["ports"]} == {50051, 9090}, "two ports: gRPC and HTTP")
    must(not any("admin" in a for a in o.daemon()["args"]), "adapter admin is off")
    must(o.get("Service")["spec"].get("clusterIP") == "None", "headless Service")
    routes = [r for m in o.managers().values() for v in m["route_config"]["virtual_hosts"] for r in v["routes"]]
    paths = {(r["match"].get("prefix") or r["match"].get("path")) for r in routes}
    must(paths <= {"/v1/", "/nibble.v1.Inference/", "/inference.GRPCInferenceService/",
                   "/inference.GRPCInferenceService/ModelStreamInfer", "/grpc.health.v1.Health/", "/ready",
                   "/metrics"}, f"the edge lets through {paths}")


def check_mtls(o):
    for flag in ("tls-cert", "tls-key", "tls-client-ca", "tenants"):
        path = o.flag(flag)
        must(path, f"--{flag}")
        volume = next((m["name"] for m in o.daemon()["volumeMounts"] if path.startswith(m["mountPath"] + "/")), None)
        must(any(v["name"] == volume and "secret" in v for v in o.pod()["volumes"]), f"--{flag} is from a Secret")
    for m in o.daemon()["volumeMounts"]:
        must("subPath" not in m, "a subPath is never swapped")
    worker = o.envoy("envoy-workers.yaml")["resources"][0]
    must("UpstreamTlsContext" in str(worker.get("transport_socket")), "the edge speaks TLS to the daemons")
    must(all("watched_directory" in str(r) for r in o.envoy("envoy-client-tls.yaml")["resources"]), "certs reload")
    must(not any(d["metadata"]["name"] == "gateway" for d in o.kind("Deployment")), "nobody speaks plaintext")


def check_probes(o):
    c = o.daemon()
    startup, ready, live = c["startupProbe"], c["readinessProbe"], c["livenessProbe"]
    cold = float(o.annotation("nibble/cold-load-seconds"))
    must(startup["periodSeconds"] * startup["failureThreshold"] >= 2 * cold, "startup: twice the cold load")
    must(ready["httpGet"] == {"path": "/readyz", "port": "metrics"}, "readiness")
    must(live["httpGet"] == {"path": "/livez", "port": "metrics"}, "liveness is never readiness")
    must(live["periodSeconds"] * live["failureThreshold"] <= 30, "a deaf daemon is noticed within 30 s")


def check_drain(o):
    drain = seconds(o.flag("drain-timeout"))
    pre_stop = o.daemon()["lifecycle"]["preStop"]["sleep"]["seconds"]
    must(pre_stop >= 5 and drain >= 60, "preStop and drain")
    must(o.pod()["terminationGracePeriodSeconds"] >= pre_stop + drain + 10, "grace")


def check_rollout(o):
    must(o.get("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1, "PDB")
    for deployment in o.kind("Deployment"):
        rolling = deployment["spec"]["strategy"]["rollingUpdate"]
        must(rolling == {"maxUnavailable": 0, "maxSurge": 1}, "rolling update")
    keys = {c["topologyKey"] for c in o.pod().get("topologySpreadConstraints", [])}
    must(keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, "topology spread")
    must(o.get("Deployment")["spec"]["replicas"] >= 2, "replicas")


def check_connections(o):
    monitors = o.envoy()["overload_manager"]["resource_monitors"]
    must(monitors[0]["typed_config"]["max_active_downstream_connections"] == 1024, "connection cap")
    for name, manager in o.managers().items():
        must(seconds(manager["request_headers_timeout"]) <= 10, f"{name}: headers")
        if name == "status":
            continue
        must(seconds(manager["common_http_protocol_options"]["max_connection_duration"]) == 600, f"{name}: age")
        must(manager["http2_protocol_options"]["max_concurrent_streams"] == 100, f"{name}: streams")
        must(manager["max_request_headers_kb"] <= 16, f"{name}: header bytes")
    for listener in o.envoy()["static_resources"]["listeners"]:
        chain = listener["filter_chains"][0]
        if listener["name"] == "status":
            continue
        must(seconds(chain["transport_socket_connect_timeout"]) <= 10, "handshake")
        must("DownstreamTlsContext" in str(chain.get("transport_socket")), "TLS")
    must(o.envoy("envoy-workers.yaml")["resources"][0]["circuit_breakers"], "circuit breakers")


def check_security_context(o):
    for name in (d["metadata"]["name"] for d in o.kind("Deployment")):
        pod = o.pod(name)
        must(pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0, f"{name}: user")
        must(pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, f"{name}: seccomp")
        must(not any(pod.get(k) for k in ("hostNetwork", "hostIPC", "hostPID")), f"{name}: host namespaces")
        must(name == "gateway" or pod["automountServiceAccountToken"] is False, f"{name}: token")
        for c in pod["containers"] + pod.get("initContainers", []):
            must(c["securityContext"] == LOCKED, f"{name}/{c['name']}: securityContext")
    labels = o.get("Namespace", "nibble")["metadata"]["labels"]
    must(labels["pod-security.kubernetes.io/enforce"] == "restricted", "pod security")


def check_volumes(o):
    for container in o.pod()["containers"] + o.pod()["initContainers"]:
        for mount in container["volumeMounts"]:
            must(mount.get("readOnly") or mount["mountPath"] == "/tmp", f"{mount['mountPath']} is writable")
    for volume in o.pod()["volumes"]:
        must("hostPath" not in volume, "hostPath")
        must("emptyDir" not in volume or volume["emptyDir"].get("sizeLimit"), "an emptyDir without a limit")


def check_memory(o):
    resources = o.daemon()["resources"]
    cache = quantity(o.annotation("nibble/adapter-cache"))
    must(not o.flag("adapters") or quantity(str(o.flag("adapter-memory")).rstrip("B")) == cache, "memory of adapters")
    connections = int(o.flag("max-connections") or 1024) * (256 + 1024 + 64) * 1024
    need = 1.2 * (quantity(o.annotation("nibble/weights")) + quantity(o.flag("kv-memory")) + connections + cache)
    must(resources["requests"]["memory"] == resources["limits"]["memory"], "memory: request is limit")
    must(quantity(resources["limits"]["memory"]) >= need, f"memory: needs {need / (1 << 30):.2f} GiB")
    must(cpus(resources["requests"]["cpu"]) == float(o.flag("threads")), "cpu: the threads")
    must("cpu" not in resources["limits"], "no CPU limit")


def check_network(o):
    everything = o.get("NetworkPolicy", "deny-all")["spec"]
    must(everything == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, "default deny")
    policies = [p["spec"] for p in o.kind("NetworkPolicy")
                if p["spec"]["podSelector"].get("matchLabels") == {NAME: "nibbled"}]
    must(policies, "a policy for the daemons")
    must("Egress" in o.get("NetworkPolicy")["spec"]["policyTypes"], "egress is governed")
    for policy in policies:
        must(not policy.get("egress"), "a daemon has no egress")
        for rule in policy["ingress"]:
            must(rule.get("from"), "ingress from anywhere")
            ports = {p["port"] for p in rule["ports"]}
            must(ports in ({"grpc"}, {"metrics"}), f"ingress to {ports}")
            if ports == {"metrics"} and "namespaceSelector" in rule["from"][0]:
                labels = rule["from"][0]["namespaceSelector"]["matchLabels"]
                must(labels == {"kubernetes.io/metadata.name": "monitoring"}, "metrics for monitoring")


def check_autoscaling(o):
    spec = o.get("HorizontalPodAutoscaler")["spec"]
    rules = yaml.safe_load((ROOT / "prometheus-adapter.yaml").read_text())["rules"]
    series = {r["name"]["as"]: r["seriesQuery"].partition("{")[0] for r in rules}
    must(all(m["type"] == "Pods" for m in spec["metrics"]), "never on CPU")
    scaled = {series.get(m["pods"]["metric"]["name"]) for m in spec["metrics"]}
    must(scaled == {"vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"}, f"scales on {scaled}")
    must(spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300, "scale-down stabilisation")
    must(spec["minReplicas"] >= 2, "at least two")


def check_pins(o):
    """Model and adapters are checked against sums of the manifest before a daemon starts."""
    command = o.pod()["initContainers"][0]["command"]
    data = o.get("ConfigMap", "nibble-pins")["data"]
    must(command[:3] == ["sha256sum", "--check", "--strict"], "the sums are checked")
    must(set(command[3:]) == {f"/pins/{name}" for name in data}, "every file of sums is read")
    line = rf"^[0-9a-f]{{64}}  {re.escape(o.flag('model'))}$"
    must(re.search(line, data["models.sha256"], re.M), "the model is pinned")
    must(not o.flag("adapters") or "/pins/adapters.sha256" in command, "adapters are pinned")


def check_monitoring(o):
    monitored = {m["spec"]["selector"]["matchLabels"][NAME]
                 for m in o.all if m["kind"] in ("ServiceMonitor", "PodMonitor")}
    must(monitored >= {d["metadata"]["name"] for d in o.kind("Deployment")}, f"monitored: {monitored}")
    service = o.get("Service")["spec"]
    must("metrics" in {p["name"] for p in service["ports"]}, "the Service has the port that is monitored")


def check_pool(o):
    pool = o.get("InferencePool")["spec"]
    labels = o.get("Deployment")["spec"]["template"]["metadata"]["labels"]
    must(pool["selector"]["matchLabels"].items() <= labels.items(), "the pool finds the pods")
    must(pool["targetPorts"] == [{"number": 50051}] and pool["appProtocol"] == "kubernetes.io/h2c", "h2c on 50051")
    must(not o.flag("tls-cert"), "the pool's proxy speaks plaintext")


def check_gateway(o):
    args = o.pod("gateway")["containers"][0]["args"]
    selector = next(a for a in args if a.startswith("--selector=")).removeprefix("--selector=").split("=")
    labels = o.get("Deployment")["spec"]["template"]["metadata"]["labels"]
    must(labels.get(selector[0]) == selector[1], "finds the pods")
    must({"--service-discovery", "--policy=cache_aware", "--service-discovery-port=50051"} <= set(args), "routing")
    must(f"--service-discovery-namespace={o.get('Namespace', 'nibble')['metadata']['name']}" in args, "namespace")
    must(o.get("Role", "gateway")["rules"] == [{"apiGroups": [""], "resources": ["pods"],
                                               "verbs": ["get", "list", "watch"]}], "may watch pods and nothing else")
    must(any(e["name"] == "HF_ENDPOINT" for e in o.pod("gateway")["containers"][0]["env"]), "never asks a hub")


COMMON = (check_ports, check_probes, check_drain, check_rollout, check_connections, check_security_context,
          check_volumes, check_memory, check_network, check_autoscaling, check_pins, check_monitoring)
CHECKS = {"overlays/openai": (*COMMON, check_gateway), "overlays/grpc": (*COMMON, check_mtls),
          "overlays/inference-pool": (*COMMON, check_pool)}
