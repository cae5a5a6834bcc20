#!/usr/bin/env bash
# Installs the Debian packages that deploy/packages.txt names.
#
# usage: install_packages.sh [--tests]     --tests: also those that only the tests need
#
# Where everything is installed it asks dpkg once and leaves apt alone.
set -euo pipefail
list="$(dirname "${BASH_SOURCE[0]}")/packages.txt"

die() { echo "install_packages: $*" >&2; exit 1; }

# The lines of the list that apply: `wanted tests` keeps those marked `# tests`.
wanted() {
  if [[ ${1:-} == tests ]]; then cat "$list"; else grep -v '# tests' "$list"; fi | sed 's/#.*//' | xargs -n1
}

missing() {
  local installed
  installed="$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')"
  grep -vxF "$installed" <<<"$1" || true
}

apt() {
  local sudo=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "needs root or sudo to install: $lacking"
    sudo=(sudo)
  fi
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >&2 </dev/null
}

case "${1:-}" in
  --tests) packages="$(wanted tests)" ;;
  "") packages="$(wanted)" ;;
  *) echo "usage: install_packages.sh [--tests]" >&2; exit 2 ;;
esac
command -v dpkg-query >/dev/null || die "needs Debian 12; install by hand: $(xargs <<<"$packages")"
lacking="$(missing "$packages" | xargs)"
[[ -z $lacking ]] && exit 0
echo "installing: $lacking" >&2
apt update || die "apt-get update failed"
read -ra names <<<"$lacking"
apt install -y --no-install-recommends "${names[@]}" || die "apt-get could not install: $lacking"
