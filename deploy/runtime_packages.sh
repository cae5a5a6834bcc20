#!/usr/bin/env bash
# Prints the Debian packages whose libraries programs load, one a line.
#
# usage: runtime_packages.sh PROGRAM...
set -euo pipefail
export LC_ALL=C
(($#)) || { echo "usage: runtime_packages.sh PROGRAM..." >&2; exit 2; }

libraries="$(ldd "$@")"
if grep -q 'not found' <<<"$libraries"; then
  echo "runtime_packages: $(grep -m1 'not found' <<<"$libraries" | xargs)" >&2
  exit 1
fi
# A package may name the file with /usr or, from before /lib became a link, without.
awk '$2 == "=>" {print $3}' <<<"$libraries" | sort -u | while read -r library; do
  path="$(realpath "$library")"
  dpkg-query -S "$path" 2>/dev/null || dpkg-query -S "${path#/usr}"
done | cut -d: -f1 | sort -u
