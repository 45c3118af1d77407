#!/bin/bash
# Tests and times the CUDA kernels on this machine's GPU; the last line is "N passed, N failed".
set -uo pipefail

usage() {
  cat <<'END'
Usage: tests/gpu/run.sh [--no-benchmark] [FOLDER]

FOLDER holds what tests/gpu/pack.sh made: build/gpu unless given. Runs the attention kernels against
the fp64 reference, a few of the tests again under compute-sanitizer where there is one, and the
benchmark, whose table goes to standard output. The exit status is 0 only if something passed and
nothing failed.
END
}

folder=
benchmark=1
for argument in "$@"; do
  case $argument in
    -h|--help) usage; exit 0 ;;
    --no-benchmark) benchmark=0 ;;
    -*) usage >&2; exit 2 ;;
    *) folder=$argument ;;
  esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
folder=$(cd "${folder:-build/gpu}" && pwd) || exit 1
export LD_LIBRARY_PATH=$folder/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# step NAME COMMAND...: one passed or failed.
step() {
  local name=$1
  shift
  echo "== $name"
  if "$@" >"$log" 2>&1; then
    passed=$((passed + 1))
    tail -n 3 "$log"
  else
    failed=$((failed + 1))
    tail -n 60 "$log"
    echo "FAILED: $name"
  fi
}

# catch_step NAME PROGRAM: counts its test cases; one that ends early counts as one failure.
catch_step() {
  local name=$1 program=$2 all bad
  echo "== $name"
  "$program" >"$log" 2>&1
  local status=$?
  if all=$(sed -nE 's/^All tests passed \(.* in ([0-9]+) test cases?\)$/\1/p' "$log") && [[ -n $all ]]; then
    passed=$((passed + all))
  elif read -r all bad < <(sed -nE 's/^test cases: *([0-9]+) .* ([0-9]+) failed.*$/\1 \2/p' "$log"); then
    passed=$((passed + all - bad))
    failed=$((failed + bad))
  else
    failed=$((failed + 1))
  fi
  ((status == 0)) && tail -n 2 "$log" || tail -n 80 "$log"
}

catch_step "attention against fp64" "$folder/attention_gpu_test"

if command -v compute-sanitizer >/dev/null; then
  few="device and pinned*,a row that sees*,negative*"
  step "memcheck" compute-sanitizer --tool memcheck --error-exitcode 1 \
    "$folder/attention_gpu_test" "$few"
else
  echo "no compute-sanitizer here: skipped"
fi

if ((benchmark)); then
  echo "== benchmark"
  if "$folder/attention_gpu_benchmark"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
fi

echo "$passed passed, $failed failed"
((passed > 0 && failed == 0))
