#!/usr/bin/env python3
"""The manifests of deploy/kubernetes as kubectl renders them: valid by Kubernetes' schemas, and hardened.

Every check of kubernetes_hardening.py holds, and none of them holds whatever it is given: SPOILED has for each the ways
in which manifests go wrong, which it must notice. Needs the packages of requirements.txt.
"""
import copy
import pathlib
import subprocess
import sys
import unittest

import kubernetes_validate
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import kubernetes_hardening as hardening

KUBECTL = pathlib.Path(sys.executable).with_name("kubectl")
SCHEMAS = ("1.32", "1.37")  # the oldest and the newest Kubernetes that is looked at
OTHER_APIS = {"ServiceMonitor", "PodMonitor", "InferencePool"}  # of CRDs: no schema here


def render(overlay):
    done = subprocess.run([KUBECTL, "kustomize", hardening.ROOT / overlay], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


def flag(name, value):
    """Spoils a flag of the daemon; None takes it away."""
    def spoil(o):
        o.daemon()["args"] = [a for a in o.daemon()["args"] if not a.startswith(f"--{name}=")]
        if value is not None:
            o.daemon()["args"].append(f"--{name}={value}")
    return spoil


def put(find, *path):
    """Spoils one value: the last two of `path` are its key and what to put there; None takes it away."""
    *way, key, value = path

    def spoil(o):
        at = find(o)
        for step in way:
            at = at[step]
        if value is None:
            del at[key]
        else:
            at[key] = value
    return spoil


def envoy(file, old, new):
    """Spoils the text of one of Envoy's files."""
    def spoil(o):
        data = o.get("ConfigMap", "edge-config")["data"]
        assert old in data[file], old
        data[file] = data[file].replace(old, new)
    return spoil


def obj(kind, name="nibbled"):
    return lambda o: o.get(kind, name)


def spec(kind, name="nibbled"):
    return lambda o: o.get(kind, name)["spec"]


def pod(name):
    return lambda o: o.pod(name)


def daemon(o):
    return o.daemon()


def without(kind, name="nibbled"):
    return lambda o: o.all.remove(o.get(kind, name))


SPOILED = {
    "check_ports": (lambda o: daemon(o)["ports"].append({"containerPort": 8080}), flag("adapter-admin", "on"),
                    put(spec("Service"), "clusterIP", None),
                    envoy("envoy.yaml", "prefix: /nibble.v1.Inference/", "prefix: /")),
    "check_mtls": (flag("tls-client-ca", None), flag("tenants", "/models/tenants"),
                   lambda o: daemon(o)["volumeMounts"][-1].update(subPath="tls.crt"),
                   envoy("envoy-workers.yaml", "UpstreamTlsContext", "None"),
                   envoy("envoy-client-tls.yaml", "watched_directory", "folder"),
                   lambda o: o.all.append({"kind": "Deployment", "metadata": {"name": "gateway"}})),
    "check_probes": (put(daemon, "startupProbe", "failureThreshold", 3), put(daemon, "readinessProbe", None),
                     put(daemon, "livenessProbe", "httpGet", "path", "/readyz"),
                     put(daemon, "livenessProbe", "periodSeconds", 60)),
    "check_drain": (flag("drain-timeout", "10s"), put(pod("nibbled"), "terminationGracePeriodSeconds", 70),
                    put(daemon, "lifecycle", "preStop", "sleep", "seconds", 0)),
    "check_rollout": (put(spec("PodDisruptionBudget"), "maxUnavailable", "50%"),
                      put(spec("Deployment"), "strategy", "rollingUpdate", "maxUnavailable", 1),
                      put(pod("nibbled"), "topologySpreadConstraints", None), put(spec("Deployment"), "replicas", 1)),
    "check_connections": (
        envoy("envoy.yaml", "max_active_downstream_connections: 1024", "max_active_downstream_connections: 1000000"),
        envoy("envoy.yaml", "max_concurrent_streams: 100", "max_concurrent_streams: 2147483647"),
        envoy("envoy.yaml", "max_connection_duration: 600s", "max_connection_duration: 0s"),
        envoy("envoy.yaml", "request_headers_timeout: 10s", "request_headers_timeout: 600s"),
        envoy("envoy.yaml", "transport_socket_connect_timeout: 10s", "transport_socket_connect_timeout: 3600s"),
        envoy("envoy.yaml", "max_request_headers_kb: 16", "max_request_headers_kb: 8192"),
        envoy("envoy.yaml", "DownstreamTlsContext", "None")),
    "check_security_context": (
        *(put(pod(name), "containers", 0, "securityContext", key, value) for name in ("nibbled", "edge")
          for key, value in (("readOnlyRootFilesystem", False), ("allowPrivilegeEscalation", True),
                             ("capabilities", {"drop": []}))),
        put(pod("nibbled"), "securityContext", "runAsNonRoot", False),
        put(pod("edge"), "securityContext", "runAsUser", 0),
        put(pod("nibbled"), "securityContext", "seccompProfile", "type", "Unconfined"),
        put(pod("nibbled"), "hostNetwork", True), put(pod("nibbled"), "automountServiceAccountToken", True),
        put(pod("nibbled"), "initContainers", 0, "securityContext", "readOnlyRootFilesystem", False),
        put(obj("Namespace", "nibble"), "metadata", "labels", "pod-security.kubernetes.io/enforce", "privileged")),
    "check_volumes": (put(daemon, "volumeMounts", 0, "readOnly", False),
                      lambda o: o.pod()["volumes"].append({"name": "more", "emptyDir": {}}),
                      lambda o: o.pod()["volumes"].append({"name": "host", "hostPath": {"path": "/"}})),
    "check_memory": (flag("kv-memory", "4GiB"), put(daemon, "resources", "limits", "cpu", "1"),
                     put(daemon, "resources", "requests", "memory", "1Gi"), flag("threads", "8"),
                     flag("max-connections", "2048")),
    "check_network": (put(spec("NetworkPolicy"), "egress", [{"ports": [{"port": 443}]}]),
                      put(spec("NetworkPolicy"), "policyTypes", ["Ingress"]),
                      put(spec("NetworkPolicy"), "ingress", 0, "from", None),
                      put(spec("NetworkPolicy"), "ingress", 0, "ports", [{"port": "grpc"}, {"port": "metrics"}]),
                      put(spec("NetworkPolicy"), "ingress", 1, "from", 0, "namespaceSelector", "matchLabels", {}),
                      put(spec("NetworkPolicy", "deny-all"), "egress", [{}])),
    "check_autoscaling": (
        lambda o: o.get("HorizontalPodAutoscaler")["spec"]["metrics"].append({"type": "Resource"}),
        put(spec("HorizontalPodAutoscaler"), "metrics", 0, "pods", "metric", "name", "cpu"),
        put(spec("HorizontalPodAutoscaler"), "behavior", "scaleDown", "stabilizationWindowSeconds", 60),
        put(spec("HorizontalPodAutoscaler"), "minReplicas", 1)),
    "check_pins": (put(pod("nibbled"), "initContainers", 0, "command", ["true"]),
                   put(obj("ConfigMap", "nibble-pins"), "data", "models.sha256", "  /models/smollm2.gguf"),
                   put(obj("ConfigMap", "nibble-pins"), "data", "more.sha256", "")),
    "check_monitoring": (without("ServiceMonitor"), without("PodMonitor", "edge"), put(spec("Service"), "ports", [])),
    "check_pool": (put(spec("InferencePool"), "selector", "matchLabels", {hardening.NAME: "vllm"}),
                   put(spec("InferencePool"), "appProtocol", "http"), flag("tls-cert", "/etc/nibbled/tls/tls.crt")),
    "check_gateway": (
        lambda o: o.get("Deployment")["spec"]["template"]["metadata"]["labels"].clear(),
        put(pod("gateway"), "containers", 0, "args", 0, "--selector=app=x"),
        lambda o: o.pod("gateway")["containers"][0]["args"].remove("--policy=cache_aware"),
        put(pod("gateway"), "containers", 0, "env", []),
        lambda o: o.get("Role", "gateway")["rules"][0]["verbs"].append("delete")),
}


class Kubernetes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rendered = {overlay: render(overlay) for overlay in hardening.CHECKS}

    def each(self):
        for overlay, checks in hardening.CHECKS.items():
            for check in checks:
                yield overlay, check

    def test_schemas(self):
        for overlay, objects in self.rendered.items():
            for version in SCHEMAS:
                for o in objects:
                    if o["kind"] not in OTHER_APIS:
                        with self.subTest(overlay, version=version, kind=o["kind"], name=o["metadata"]["name"]):
                            kubernetes_validate.validate(o, version, strict=True)

    def test_a_schema_notices_an_unknown_field(self):
        pod_spec = hardening.Objects(copy.deepcopy(self.rendered["overlays/openai"])).get("Deployment")
        pod_spec["spec"]["template"]["spec"]["hostnetwork"] = True
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(pod_spec, SCHEMAS[0], strict=True)

    def test_everything_is_in_the_namespace(self):
        for objects in self.rendered.values():
            for o in objects:
                self.assertEqual("nibble" if o["kind"] != "Namespace" else None, o["metadata"].get("namespace"), o)

    def test_hardening(self):
        for overlay, check in self.each():
            with self.subTest(overlay, check=check.__name__):
                check(hardening.Objects(self.rendered[overlay]))

    def test_hardening_notices_what_is_spoiled(self):
        for overlay, check in self.each():
            for i, spoil in enumerate(SPOILED[check.__name__]):
                with self.subTest(overlay, check=check.__name__, spoiled=i):
                    objects = hardening.Objects(copy.deepcopy(self.rendered[overlay]))
                    spoil(objects)
                    self.assertNotEqual(objects.all, self.rendered[overlay])
                    with self.assertRaises((AssertionError, KeyError, StopIteration, IndexError)):
                        check(objects)


if __name__ == "__main__":
    unittest.main()
