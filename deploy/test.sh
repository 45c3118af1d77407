#!/bin/bash
# Sets up, builds and tests everything; the last line is "N passed, N failed".
set -uo pipefail

usage() {
  cat <<'EOF'
Usage: deploy/test.sh [--faults] [--config NAME]... [BAZEL_TEST_ARGUMENT]...

Runs deploy/setup.sh and `bazel test //...`, shows the logs of failed tests,
says which cases were skipped here and why, and ends with a line "N passed,
N failed" that counts test targets. The exit status
is 0 only if there were tests and all of them passed. If it is interrupted, the
line is "interrupted: N passed, N failed, N not run" and the status 130. NAME is
one of .bazelrc's: release, debug, asan, ubsan, tsan, cpu. Each of them compiles
everything once for itself; without one, what deploy/quickstart.sh has compiled
is not compiled again.

--faults runs the fault tests too: a cluster with three members of etcd on a
network of its own (network namespaces, so as root), whose daemons are killed,
frozen and cut off under load. Two targets, one at a time, which take some
minutes and are ended after ten each.

Environment:
  LATENTD_OUTPUT_BASE   Bazel's --output_base
  LATENTD_SKIP_SETUP=1  do not run deploy/setup.sh
  LATENTD_DEPS          where the UCX wheel is unpacked (default: ~/.cache/latentd)
  UCX_HOME              an installed UCX to build with; the wheel is then not needed
  CI                    when set, no Bazel server afterwards
EOF
}

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null

arguments=()
targets=(//...)
while (($# > 0)); do
  case $1 in
    -h|--help) usage; exit 0 ;;
    # All that is of size large are the four of these: 20 minutes together.
    --faults) targets+=(//tests/cluster:faults) arguments+=(--test_timeout=-1,-1,300,-1) ;;
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
# Lines instead of a screen that is painted over and over; they come every half minute.
[[ -n ${CI:-} || ! -t 1 ]] && arguments+=(--config=ci)

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

echo "test: building and testing everything: well over ten minutes on two cores the first time"
bazel "${startup[@]}" test --keep_going --build_event_json_file="$scratch/events.json" \
  "${arguments[@]}" -- "${targets[@]}"
status=$?

python3 - "$scratch/events.json" "$status" <<'EOF'
import json
import sys
import urllib.parse

INTERRUPTED = 8  # Bazel's exit status for it
path, status = sys.argv[1], int(sys.argv[2])


def skipped_cases(log):
    """What Catch2 shows of WARN("skipped: ..."): the case between two rules, then the words."""
    case, words, last_rule = "", None, None
    lines = log.splitlines() + [""]
    for number, line in enumerate(lines):
        if words is not None:
            if line.strip():
                words.append(line.strip())
            else:
                yield case, " ".join(words)
                words = None
        elif len(line) > 20 and not line.strip("-"):
            if last_rule is not None and number - last_rule <= 4:
                case = " ".join(part.strip() for part in lines[last_rule + 1:number])
            last_rule = number
        elif line.startswith("  skipped: "):
            words = [line.strip().removeprefix("skipped: ")]


def read_log(event):
    for output in event.get("testActionOutput", []):
        url = urllib.parse.urlparse(output.get("uri", ""))
        if output.get("name") == "test.log" and url.scheme == "file":
            try:
                with open(urllib.parse.unquote(url.path), errors="replace") as log:
                    return log.read()
            except OSError:
                pass
    return ""


skipped = set()
tests, built, passed, failed, unfinished = set(), set(), set(), set(), set()
try:
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                break  # cut off by an interrupt
            event = json.loads(line)
            key = event["id"]
            if "configured" in event:
                if event["configured"].get("targetKind", "").endswith("_test rule"):
                    tests.add(key["targetConfigured"]["label"])
            elif event.get("completed", {}).get("success"):
                built.add(key["targetCompleted"]["label"])
            elif "testResult" in event:
                label = key["testResult"]["label"]
                for case, why in skipped_cases(read_log(event["testResult"])):
                    skipped.add(f"SKIPPED: {label}: {case}: {why}")
            elif "testSummary" in event:
                result = event["testSummary"].get("overallStatus", "NO_STATUS")
                if result in ("PASSED", "FLAKY"):
                    where = passed
                elif result in ("NO_STATUS", "INCOMPLETE"):
                    where = unfinished
                else:
                    where = failed
                where.add(key["testSummary"]["label"])
except (OSError, ValueError) as error:
    print(f"Bazel's events are unreadable: {error}")

for line in sorted(skipped):
    print(line)
if status == INTERRUPTED:
    left = len(tests - passed - failed)
    print(f"interrupted: {len(passed)} passed, {len(failed)} failed, {left} not run")
    sys.exit(130)
# Tests that were built and have no summary were left out by a tag filter.
failed |= unfinished | tests - built - passed
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
