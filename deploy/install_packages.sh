#!/usr/bin/env bash
# Installs the Debian packages that deploy/packages.txt names.
#
# usage: install_packages.sh [--cluster | --tests]
#   --cluster  also those that only local-cluster.sh needs
#   --tests    also those, and what only the tests need
#
# Where everything is installed it asks dpkg once and leaves apt alone.
set -euo pipefail
list="$(dirname "${BASH_SOURCE[0]}")/packages.txt"

die() { echo "install_packages: $*" >&2; exit 1; }

# wanted MARKS: the packages of the list but those with one of these marks.
wanted() { grep -vE "# ($1)" "$list" | sed 's/#.*//' | xargs -n1; }

missing() {
  local installed
  installed="$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')"
  grep -vxF "$installed" <<<"$1" || true
}

as_root() {
  if ((EUID == 0)); then "$@"; return; fi
  command -v sudo >/dev/null || die "needs root or sudo to install: $lacking"
  sudo "$@"
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >&2 </dev/null
}

case "${1:-}" in
  --tests) packages="$(wanted none)" ;;
  --cluster) packages="$(wanted tests)" ;;
  "") packages="$(wanted 'tests|cluster')" ;;
  *) echo "usage: install_packages.sh [--cluster | --tests]" >&2; exit 2 ;;
esac
command -v dpkg-query >/dev/null || die "needs Debian 12; install by hand: $(xargs <<<"$packages")"
lacking="$(missing "$packages" | xargs)"
[[ -z $lacking ]] && exit 0
echo "installing: $lacking" >&2
apt update || die "apt-get update failed"
read -ra names <<<"$lacking"
apt install -y --no-install-recommends "${names[@]}" || die "apt-get could not install: $lacking"
# Debian starts what it installs; a Prometheus of the machine's own would hold the daemon's metrics port.
if [[ " $lacking " == *" prometheus "* && -d /run/systemd/system ]]; then
  as_root systemctl disable --now prometheus >&2 || die "systemctl could not stop the service prometheus"
fi
