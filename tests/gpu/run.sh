#!/bin/bash
# Tests and times latentd on this machine's GPU; the last line is "N passed, N failed".
set -uo pipefail

usage() {
  cat <<'END'
Usage: tests/gpu/run.sh [--no-benchmark] [--only kernels|daemon] [ARCHIVE]

ARCHIVE is what `bazel build //deploy:bundle` makes: build/latentd.tar.gz unless given. Unpacks it
and runs: the kernels against the fp64 reference and the store over the GPU's memory, a few of those
tests again under compute-sanitizer where there is one, a daemon with device cuda:0 that replays the
traces of tests/data for another process, and the benchmarks, whose tables come last. The exit status is 0
only if something passed and nothing failed.
END
}

archive=build/latentd.tar.gz
benchmark=1
only=
while (($# > 0)); do
  case $1 in
    -h|--help) usage; exit 0 ;;
    --no-benchmark) benchmark=0 ;;
    --only) only=${2:-}; shift ;;
    -*) usage >&2; exit 2 ;;
    *) archive=$1 ;;
  esac
  shift
done
archive=$(readlink -f "$archive")
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

run=$(mktemp -d)
log=$run/log
programs=$run/latentd/bin
daemon_pid=
finish() {
  [[ -n $daemon_pid ]] && kill -KILL "$daemon_pid" 2>/dev/null
  rm -rf "$run"
}
trap finish EXIT
tar -xzf "$archive" -C "$run" || exit 1

passed=0
failed=0
table=()

# step NAME COMMAND...: one passed or failed; its status.
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
    return 1
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

test_kernels() {
  catch_step "attention against fp64" "$programs/attention_gpu_test"
  catch_step "records" "$programs/records_gpu_test"
  catch_step "merging" "$programs/merge_gpu_test"
  catch_step "the rotation of a chunk" "$programs/splice_gpu_test"
  step "a faulted device" "$programs/records_gpu_test" "[fault]"
  catch_step "the store over the device's memory" "$programs/latent_store_gpu_test"
  LATENTD_TEST_DEVICE=cuda:0 catch_step "a lane on the device" "$programs/lane_test"
  if ! command -v compute-sanitizer >/dev/null; then
    echo "no compute-sanitizer here: skipped"
    return
  fi
  step "memcheck, attention" compute-sanitizer --tool memcheck --error-exitcode 1 \
    "$programs/attention_gpu_test" "device and pinned*,a row that sees*,negative*"
  step "memcheck, records" compute-sanitizer --tool memcheck --error-exitcode 1 \
    "$programs/records_gpu_test" "the device*"
  step "memcheck, rotation" compute-sanitizer --tool memcheck --error-exitcode 1 \
    "$programs/splice_gpu_test" "the device rotates records*"
}

source tests/gpu/daemon.sh

[[ $only == daemon ]] || test_kernels
[[ $only == kernels ]] || test_daemon
if ((benchmark)); then
  if [[ $only != daemon ]]; then
    step "kernel benchmark" "$programs/attention_gpu_benchmark" && cat "$log"
    step "rotation benchmark" "$programs/splice_gpu_benchmark" && cat "$log"
  fi
  if ((${#table[@]} > 0)); then
    echo "== end to end, another process; microseconds"
    printf '%-43s%19s%9s%9s%9s%12s\n' "" "p50/p99" queue compute beyond queries/s
    printf '%s\n' "${table[@]}"
  fi
fi

echo "$passed passed, $failed failed"
((passed > 0 && failed == 0))
