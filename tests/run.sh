#!/usr/bin/env bash
# Installs packages, builds, and runs every check. Ends with one line: N passed, N failed.
#
# usage: run.sh [--fast]
#   --fast   only what takes under a minute once built: the checks of the source and the tests labelled `fast`
#
# All of it: the checks, every test of the release build, those with threads of scheduler and engine under ThreadSanitizer,
# nearly all that need no real model under Address- and UndefinedBehaviorSanitizer, each fuzz target for a minute, and
# real clients and the real gateway against running daemons. Logs lie in build/test-logs/.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

case "${1:-}" in
  '') fast=false ;;
  --fast) fast=true ;;
  --help) sed -n 's/^# \?//p' tests/run.sh | sed -n '/^usage/,/^$/p'; exit 0 ;;
  *) echo "usage: run.sh [--fast]" >&2; exit 2 ;;
esac

logs=build/test-logs
mkdir -p "$logs"
passed=0 failed=0
jobs="$(nproc)"
export NIBBLE_LIFECYCLE_REQUESTS=10000  # the full form of the server's lifecycle test

# count PASSED FAILED
count() { ((passed += $1, failed += $2)) || true; }

finish() {
  echo
  echo "$passed passed, $failed failed"
  ((failed == 0 && passed > 0))
  exit
}

# step NAME COMMAND...: runs it with its output in a log, which is shown where it fails.
step() {
  local name="$1" start=$SECONDS
  shift
  printf '%-36s ' "$name"
  if "$@" >"$logs/$name.log" 2>&1; then
    echo "ok, $((SECONDS - start)) s"
    return 0
  fi
  echo "FAILED, $((SECONDS - start)) s"
  grep -vE '^ *(Start +)?[0-9]+(/[0-9]+ Test +#[0-9]+)?: .*(Passed +[0-9.]+ sec)?$' "$logs/$name.log" | tail -n 80 | sed 's/^/    /'
  return 1
}

# prepare NAME COMMAND...: what nothing else works without; only its failure is counted.
prepare() { step "$@" || { count 0 1; return 1; }; }

# build PRESET [TARGET...]
build() {
  local preset="$1"
  shift
  # A configured folder reconfigures itself where a CMakeLists.txt has changed.
  if [[ ! -f build/$preset/build.ninja ]]; then
    prepare "configure-$preset" cmake --preset "$preset" || return 1
  fi
  prepare "build-$preset" cmake --build "build/$preset" -j "$jobs" ${1:+--target "$@"}
}

# run_ctest NAME PRESET [CTEST OPTION...]: counts each test.
run_ctest() {
  local name="$1" preset="$2" report="$PWD/$logs/ctest-$1.xml" launcher=()
  shift 2
  # ThreadSanitizer of GCC 12 does not know the address layouts of newer kernels.
  if [[ $preset == tsan ]] && setarch -R true 2>/dev/null; then launcher=(setarch -R); fi
  rm -f "$report"
  step "test-$name" "${launcher[@]}" ctest --test-dir "build/$preset" -j "$jobs" --output-on-failure --no-tests=error \
    --output-junit "$report" "$@"
  count_report "$report" $?
}

# count_report REPORT STATUS: a test that did not run has failed, and so has a run that says no more than its status.
count_report() {
  local total failures not_run
  [[ -f $1 ]] || { count 0 1; return; }
  read -r total failures not_run < <(python3 - "$1" <<'EOF'
import sys
import xml.etree.ElementTree as tree
suite = tree.parse(sys.argv[1]).getroot()
print(*(int(suite.get(key, 0)) for key in ("tests", "failures", "skipped")))
EOF
  )
  count $((total - failures - not_run)) $((failures + not_run))
  if (($2 != 0 && failures + not_run == 0)); then count 0 1; fi
}

# run_python NAME FILE [PYTHON]: counts each test of a unittest file.
run_python() {
  step "$1" timeout 1800 "${3:-python3}" "$2"
  local status=$? total bad
  total="$(sed -n 's/^Ran \([0-9]*\) tests\?.*/\1/p' "$logs/$1.log" | tail -n 1)"
  bad="$(grep -cE '^(FAIL|ERROR): ' "$logs/$1.log")"
  if [[ -z $total ]] || ((status != 0 && bad == 0)); then count 0 1; else count $((total - bad)) "$bad"; fi
}

# environment NAME REQUIREMENTS...: Python packages in build/NAME, which later runs find again.
environment() {
  local folder="build/$1"
  shift
  cat "$@" | cmp -s - "$folder/requirements.txt" && return
  rm -rf "$folder"
  python3 -m venv "$folder" && "$folder/bin/pip" install -q "${@/#/--requirement=}" &&
    cat "$@" >"$folder/requirements.txt"
}

prepare packages deploy/install_packages.sh --tests || finish
run_python layering tests/layering_test.py
run_python packages-list tests/packages_test.py
run_python format tests/format_test.py
run_python fetch-model tests/deploy/fetch_model_test.py
run_python install-packages tests/deploy/install_packages_test.py
run_python monitoring tests/deploy/monitoring_test.py
run_python image tests/deploy/image_test.py
run_python compare-runs tests/loadtest/compare_test.py
build release || finish
run_python loadtest-command tests/loadtest/cli_test.py
run_python report-page tests/loadtest/page_test.py

if $fast; then
  run_ctest fast release -L fast
  finish
fi

prepare models deploy/fetch_model.py smollm2 qwen2.5-coder-0.5b gemma3-270m
run_ctest release release
http2=tests/conformance/http2_requirements.txt
if prepare client-environment environment python tests/conformance/requirements.txt "$http2"; then
  run_python clients tests/conformance/python_client_test.py build/python/bin/python
  run_python chaos tests/conformance/chaos_test.py build/python/bin/python
  run_python interruption tests/conformance/interruption_test.py build/python/bin/python
fi
if prepare gateway-environment environment gateway tests/acceptance/requirements.txt deploy/requirements.txt "$http2"; then
  run_python acceptance tests/acceptance/acceptance_test.py build/gateway/bin/python
  run_python envoy tests/deploy/envoy_test.py build/gateway/bin/python
  run_python cluster tests/deploy/cluster_test.py build/gateway/bin/python
  run_python cluster-edge tests/deploy/edge_test.py build/gateway/bin/python
  run_python edge-chaos tests/deploy/edge_chaos_test.py build/gateway/bin/python
  run_python cluster-routing tests/deploy/routing_test.py build/gateway/bin/python
fi
prepare kubernetes-environment environment kubernetes tests/deploy/requirements.txt &&
  run_python kubernetes tests/deploy/kubernetes_test.py build/kubernetes/bin/python
build tsan && run_ctest tsan tsan
if build asan; then
  run_ctest asan asan -LE fuzz
  run_ctest fuzz asan -L fuzz -j $((2 * jobs))  # each for a minute, whatever else runs
fi
finish
