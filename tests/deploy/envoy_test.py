#!/usr/bin/env python3
"""The real Envoy takes the configuration of the base and of the component mtls, and refuses a spoiled one."""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "deploy"))
sys.dont_write_bytecode = True
import local_cluster

MTLS = local_cluster.HERE / "kubernetes" / "components" / "mtls"
ENVOY = pathlib.Path(sys.executable).with_name("envoy")


class Envoy(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        local_cluster.self_signed(self.folder)
        shutil.copy(self.folder / "tls.crt", self.folder / "ca.crt")

    def validate(self, *folders, spoil=lambda config: None):
        """Envoy's verdict on the files of these folders, later ones in place of earlier ones of the same name."""
        text = {}
        for folder in folders:
            for path in folder.glob("envoy*.yaml"):
                text[path.name] = path.read_text()
        for name in text:
            for place in ("/etc/envoy-client-tls", "/etc/envoy-tls", "/etc/envoy"):
                text[name] = text[name].replace(place, str(self.folder))
            (self.folder / name).write_text(text[name])
        config = yaml.safe_load(text["envoy.yaml"])
        # Validation does not read the workers' file by itself.
        workers = yaml.safe_load(text["envoy-workers.yaml"])["resources"]
        config["static_resources"]["clusters"] += [{k: v for k, v in w.items() if k != "@type"} for w in workers]
        spoil(config)
        path = self.folder / "validated.yaml"
        path.write_text(yaml.safe_dump(config))
        return subprocess.run([ENVOY, "--mode", "validate", "-c", path], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60)

    def test_base(self):
        done = self.validate(local_cluster.BASE)
        self.assertEqual(done.returncode, 0, done.stdout[-2000:])

    def test_mtls(self):
        done = self.validate(local_cluster.BASE, MTLS)
        self.assertEqual(done.returncode, 0, done.stdout[-2000:])

    def test_a_spoiled_one_is_refused(self):
        def spoil(config):
            config["static_resources"]["clusters"][-1]["unheard_of"] = "LEAST_REQUEST"
        self.assertNotEqual(self.validate(local_cluster.BASE, MTLS, spoil=spoil).returncode, 0)


if __name__ == "__main__":
    unittest.main()
