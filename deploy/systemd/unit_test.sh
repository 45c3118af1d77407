#!/bin/bash
# Checks the systemd unit without a running systemd: syntax, unknown keys, exposure, and that it fits the configuration
# that is shipped beside it.
set -uo pipefail

unit=deploy/systemd/latentd.service
config=deploy/latentd.yaml
failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }
value_of() { sed -n "s/^$1=//p" "$unit"; }

if ! command -v systemd-analyze >/dev/null; then
  echo "systemd-analyze is not here: nothing checked"
  exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# `verify` wants a program that is there. All else stays as it is.
sed 's|^ExecStart=/usr/bin/latentd |ExecStart=/bin/true |' "$unit" > "$scratch/latentd.service"
grep -q '^ExecStart=/bin/true ' "$scratch/latentd.service" || fail "ExecStart is not /usr/bin/latentd"

# Unknown keys are no error to it, only a line on stderr.
said=$(systemd-analyze verify "$scratch/latentd.service" 2>&1) || fail "systemd-analyze verify: status $?"
[[ -z $said ]] || fail "systemd-analyze verify says: $said"

# From 0 (nothing can be reached) to 100.
exposure=$(systemd-analyze security --offline=true --no-pager --threshold=25 "$scratch/latentd.service" 2>&1) ||
  fail "too exposed: $(tail -n 1 <<< "$exposure")"
tail -n 1 <<< "$exposure"

drain=$(sed -n 's/^  timeout: \([0-9]*\)s$/\1/p' "$config")
[[ -n $drain ]] || fail "no drain.timeout in $config"
(( $(value_of TimeoutStopSec) >= drain + 10 )) || fail "TimeoutStopSec is not 10 s above drain.timeout ($drain s)"
[[ $(value_of Type) == notify ]] || fail "Type is not notify"
(( $(value_of WatchdogSec) >= 4 )) || fail "WatchdogSec is too short for lanes that turn once a second when idle"
[[ $(value_of LimitMEMLOCK) == infinity ]] || fail "LimitMEMLOCK is not infinity"

((failures == 0)) && echo "ok"
exit $((failures > 0))
