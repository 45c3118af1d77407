#!/bin/bash
# Sets up, builds and tests everything; the last line is "N passed, N failed".
set -uo pipefail

usage() {
  cat <<'EOF'
Usage: deploy/test.sh [--config NAME]... [BAZEL_TEST_ARGUMENT]...

Runs deploy/setup.sh and `bazel test //...`, shows the logs of failed tests and
ends with a line "N passed, N failed" that counts test targets. The exit status
is 0 only if there were tests and all of them passed. NAME is one of .bazelrc's:
release, debug, asan, ubsan, tsan, cpu.

Environment:
  LATENTD_OUTPUT_BASE   Bazel's --output_base
  LATENTD_SKIP_SETUP=1  do not run deploy/setup.sh
  CI                    when set, quiet progress and no Bazel server afterwards
EOF
}

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null

arguments=()
while (($# > 0)); do
  case $1 in
    -h|--help) usage; exit 0 ;;
    --config)
      (($# >= 2)) || { usage >&2; exit 2; }
      arguments+=("--config=$2")
      shift
      ;;
    *) arguments+=("$1") ;;
  esac
  shift
done

if [[ -z ${HOME:-} ]]; then
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
  export HOME
fi
[[ -n ${CI:-} ]] && arguments+=(--config=ci)

if [[ ${LATENTD_SKIP_SETUP:-} != 1 ]] && ! deploy/setup.sh; then
  echo "deploy/setup.sh failed"
  echo "0 passed, 1 failed"
  exit 1
fi

startup=()
if [[ -n ${LATENTD_OUTPUT_BASE:-} ]]; then
  mkdir -p "$LATENTD_OUTPUT_BASE"
  startup=("--output_base=$LATENTD_OUTPUT_BASE")
fi

scratch=$(mktemp -d)
finish() {
  rm -rf "$scratch"
  # Nobody will use the server of a CI run again.
  [[ -n ${CI:-} ]] && bazel "${startup[@]}" shutdown >/dev/null 2>&1
}
trap finish EXIT

bazel "${startup[@]}" test --keep_going --build_event_json_file="$scratch/events.json" \
  "${arguments[@]}" -- //...
status=$?

python3 - "$scratch/events.json" "$status" <<'EOF'
import json
import sys

path, status = sys.argv[1], int(sys.argv[2])
tests, built, passed, failed = set(), set(), set(), set()
try:
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            key = event["id"]
            if "configured" in event:
                if event["configured"].get("targetKind", "").endswith("_test rule"):
                    tests.add(key["targetConfigured"]["label"])
            elif event.get("completed", {}).get("success"):
                built.add(key["targetCompleted"]["label"])
            elif "testSummary" in event:
                good = event["testSummary"].get("overallStatus") in ("PASSED", "FLAKY")
                (passed if good else failed).add(key["testSummary"]["label"])
except (OSError, ValueError) as error:
    print(f"Bazel's events are unreadable: {error}")

# Tests that were built and have no summary were left out by a tag filter.
failed |= tests - built - passed
passed -= failed
for label in sorted(failed):
    print(f"FAILED: {label}")
bad = len(failed)
if bad == 0 and (status != 0 or not passed):
    print(f"bazel exited with status {status}" if status else "no tests were run")
    bad = 1
print(f"{len(passed)} passed, {bad} failed")
sys.exit(0 if bad == 0 else 1)
EOF
