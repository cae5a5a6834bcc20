#!/usr/bin/env bash
# From a bare Debian 12 to a streamed answer: installs packages, builds, fetches a small real model, starts nibbled,
# asks it a first question, and keeps serving until Ctrl-C.
#
# usage: quickstart.sh [--once] [--listen ADDR] [--metrics ADDR]
#   --once      stop after the first answer; listens on free ports unless told otherwise
#   --listen    gRPC address, 127.0.0.1:50051
#   --metrics   HTTP address of /metrics, /livez and /readyz, 127.0.0.1:9090
#
# A second run finds everything in place and starts in seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { echo "quickstart: $*" >&2; exit 1; }
usage() { sed -n 's/^# \?//p' deploy/quickstart.sh | sed -n '/^usage/,/^$/p'; }

once=false listen='' metrics=''
while (($#)); do
  case "$1" in
    --once) once=true ;;
    --listen | --metrics)
      (($# > 1)) || { echo "quickstart: $1 needs a value" >&2; exit 2; }
      declare "${1#--}=$2"
      shift ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
if $once; then default=(127.0.0.1:0 127.0.0.1:0); else default=(127.0.0.1:50051 127.0.0.1:9090); fi

step() { printf '== %s\n' "$*" >&2; }

build() {
  local log=build/quickstart.log
  mkdir -p build
  { [[ -f build/release/build.ninja ]] || cmake --preset release; } >"$log" 2>&1 || die "cmake failed; see $log"
  if [[ -t 2 ]]; then
    cmake --build --preset release --target nibbled nibble nibble-loadtest >&2 || die "the build failed"
  else
    cmake --build --preset release --target nibbled nibble nibble-loadtest >"$log" 2>&1 ||
      { tail -n 30 "$log" >&2; die "the build failed; see $log"; }
  fi
}

# Starts nibbled; sets `daemon` to its process id and `address` to where it listens.
serve() {
  local line
  exec {output}< <(exec build/release/bin/nibbled --model "$1" --listen "${listen:-${default[0]}}" \
    --metrics "${metrics:-${default[1]}}")
  daemon=$!
  while IFS= read -r -t 60 -u "$output" line; do
    echo "$line"
    [[ $line == ready\ * ]] || continue
    address="$(sed -n 's/^ready .*grpc=\([^ ]*\).*/\1/p' <<<"$line")"
    return
  done
  die "nibbled did not become ready"
}

stop() {
  [[ -n ${daemon:-} ]] || return 0
  kill -TERM "$daemon" 2>/dev/null || true
  wait "$daemon" 2>/dev/null || true
}

step "packages"
deploy/install_packages.sh
step "build"
build
step "model"
model="$(deploy/fetch_model.py smollm2)"
step "nibbled"
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
serve "$model"
step "first answer"
question="Tell me about the sea in two sentences."
echo "> $question"
build/release/bin/nibble chat --server "$address" --max-tokens 64 --temperature 0 "$question" ||
  die "no answer from $address"
$once && exit 0

cat >&2 <<EOF
== serving at $address; Ctrl-C stops
   ask:      build/release/bin/nibble chat --server $address "Tell me a story."
   measure:  build/release/bin/nibble-loadtest --target grpc://$address --requests 64 --max-concurrency 32
EOF
wait "$daemon" || die "nibbled ended with status $?"
