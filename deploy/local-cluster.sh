#!/usr/bin/env bash
# The replicated system on one machine: daemons, the gateway in front of them, the edge with TLS, and Prometheus.
#
# usage: local-cluster.sh [--replicas N] [--model FILE] [--policy POLICY] [--port PORT] [-- NIBBLED FLAG...]
#   --replicas   daemons, 2
#   --model      model file; default: the small one that quickstart.sh fetches
#   --policy     how the gateway chooses a daemon: cache_aware, round_robin, ...
#   --port       of OpenAI's API at the edge, 8443
#
# Serves until Ctrl-C. The first run installs and builds what quickstart.sh does, and the programs of requirements.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { echo "local-cluster: $*" >&2; exit 1; }
if [[ ${1:-} == --help ]]; then sed -n 's/^# \?//p' deploy/local-cluster.sh | sed -n '/^usage/,/^$/p'; exit 0; fi

deploy/install_packages.sh --cluster
deploy/quickstart.sh --once >/dev/null

environment=build/cluster
if ! cmp -s deploy/requirements.txt "$environment/requirements.txt"; then
  echo "== gateway and edge" >&2
  rm -rf "$environment"
  { python3 -m venv "$environment" && "$environment/bin/pip" install -q -r deploy/requirements.txt; } >&2 ||
    die "pip could not install deploy/requirements.txt"
  cp deploy/requirements.txt "$environment/"
fi
exec "$environment/bin/python" -B deploy/local_cluster.py "$@"
