#!/bin/bash
# From nothing to routed answers: sets up, builds, starts daemons on loopback, replays recorded queries, stops them.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: deploy/quickstart.sh [--nodes N] [--record bf16|fp8] [--trace FILE]... [--chunk-tokens N] [--keep]

Sets up this machine, builds latentd (on two cores about ten minutes the first time;
deploy/test.sh shares what is compiled), starts N daemons on loopback with a static
routing table, publishes the traces' latent records to them, routes every recorded
query to the daemons that hold its chunks, compares each answer with the model's own
prints the table, and what the planner would do about these chunks. The exit status is 0 only when every answer was right, 1 when one
was wrong or something failed, 2 for a mistake on the command line.

  --nodes N          daemons to start, 1 to 16 (default 3)
  --record FORMAT    record format of the cache, bf16 or fp8 (default bf16)
  --trace FILE       a trace to replay; repeat for several (default: tests/data/*.safetensors)
  --chunk-tokens N   tokens in each chunk (default 128, so that a small trace reaches every node)
  --keep             leave the daemons running and say how to reach and stop them; their logs and
                     configurations stay in a folder below TMPDIR, as they do when something fails
  --help             this text

Environment:
  LATENTD_OUTPUT_BASE   Bazel's --output_base
  LATENTD_SKIP_SETUP=1  do not run deploy/setup.sh
  LATENTD_DEPS          where the UCX wheel is unpacked (default: ~/.cache/latentd)
  UCX_HOME              an installed UCX to build with; the wheel is then not needed
EOF
}

say() { echo "quickstart: $*"; }
die() { echo "quickstart: error: $*" >&2; exit 1; }
usage_error() { echo "quickstart: $*" >&2; usage >&2; exit 2; }

nodes=3
record=bf16
keep=0
chunk_tokens=128
traces=()
while (($# > 0)); do
  case $1 in
    -h|--help) usage; exit 0 ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
    --keep) keep=1 ;;
    --nodes|--record|--trace|--chunk-tokens)
      (($# >= 2)) || usage_error "$1 needs a value"
      case $1 in
        --nodes) nodes=$2 ;;
        --record) record=$2 ;;
        --chunk-tokens) chunk_tokens=$2 ;;
        --trace)
          [[ -f $2 && -r $2 ]] || die "trace $2: not a readable file"
          traces+=("$(realpath "$2")")
          ;;
      esac
      shift
      ;;
    *) usage_error "unknown argument: $1" ;;
  esac
  shift
done
[[ $nodes =~ ^[1-9][0-9]?$ ]] && ((nodes <= 16)) || usage_error "--nodes takes 1 to 16, not '$nodes'"
[[ $record == bf16 || $record == fp8 ]] || usage_error "--record takes bf16 or fp8, not '$record'"
[[ $chunk_tokens =~ ^[1-9][0-9]{0,6}$ ]] || usage_error "--chunk-tokens takes a positive number, not '$chunk_tokens'"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
((${#traces[@]} > 0)) || traces=("$PWD"/tests/data/*.safetensors)

[[ ${LATENTD_SKIP_SETUP:-} == 1 ]] || deploy/setup.sh

startup=()
if [[ -n ${LATENTD_OUTPUT_BASE:-} ]]; then
  mkdir -p "$LATENTD_OUTPUT_BASE"
  startup=("--output_base=$LATENTD_OUTPUT_BASE")
fi
say "building: about ten minutes on two cores the first time, seconds after that"
# As deploy/test.sh builds: neither compiles again what the other has compiled.
options=()
[[ -t 1 ]] || options+=(--config=ci)
bazel "${startup[@]}" build "${options[@]}" //daemon:latentd //tools:latentctl //tools:latent-bench </dev/null ||
  die "the build failed"
bin=$(bazel "${startup[@]}" info "${options[@]}" bazel-bin 2>/dev/null </dev/null)
latentd=$bin/daemon/latentd
latentctl=$bin/tools/latentctl
latent_bench=$bin/tools/latent-bench

"$latent_bench" traces "${traces[@]}" >/dev/null || die "a trace cannot be replayed"

run=$(mktemp -d "${TMPDIR:-/tmp}/latentd-quickstart.XXXXXX")
pids=()
stop_daemons() {
  ((${#pids[@]} == 0)) || kill -TERM "${pids[@]}" 2>/dev/null || true
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
finish() {
  local status=$?
  if ((keep && status == 0)); then return; fi
  stop_daemons
  if ((status == 0)); then rm -rf "$run"; else say "logs and configurations are kept in $run" >&2; fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Two free ports for each node; the kernel chooses, and they are given back just before the daemons take them.
cat > "$run/free_ports.py" <<'EOF'
import socket
import sys

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print("\n".join(str(s.getsockname()[1]) for s in sockets))
EOF
mapfile -t ports < <(python3 "$run/free_ports.py" $((2 * nodes)))

write_config() {  # node index from 0
  local peer
  cat <<EOF
node: { id: node-$(($1 + 1)), advertise: 127.0.0.1 }
control: { listen: "127.0.0.1:${ports[$1]}" }
data:
  lanes: [{ device: cpu, cache: 256MiB }]
# The traces were recorded from up to two layers of DeepSeek-V3's geometry.
model: { name: trace-2-layers, layers: 2, latent: 512, rope: 64, heads: 128 }
record: $record
membership:
  backend: static
  peers:
EOF
  for ((peer = 0; peer < nodes; ++peer)); do
    echo "    - { id: node-$((peer + 1)), control: \"127.0.0.1:${ports[peer]}\", capacity: 256MiB }"
  done
  echo "metrics: { listen: \"127.0.0.1:${ports[nodes + $1]}\" }"
}

wait_until_ready() {  # node index from 0
  local log=$run/node-$(($1 + 1)).log attempt
  for ((attempt = 0; attempt < 100; ++attempt)); do
    if "$latentctl" --endpoint "127.0.0.1:${ports[$1]}" status >/dev/null 2>&1; then return; fi
    kill -0 "${pids[$1]}" 2>/dev/null || { cat "$log" >&2; die "node-$(($1 + 1)) did not start"; }
    sleep 0.1
  done
  cat "$log" >&2
  die "node-$(($1 + 1)) did not answer in 10 s"
}

for ((i = 0; i < nodes; ++i)); do
  write_config "$i" > "$run/node-$((i + 1)).yaml"
  "$latentd" --config "$run/node-$((i + 1)).yaml" > "$run/node-$((i + 1)).log" 2>&1 </dev/null &
  pids+=($!)
done
for ((i = 0; i < nodes; ++i)); do wait_until_ready "$i"; done
say "$nodes daemon(s) are up: $(printf '127.0.0.1:%s ' "${ports[@]:0:nodes}")"

arguments=()
for trace in "${traces[@]}"; do arguments+=(--trace "$trace"); done
"$latent_bench" --endpoint "127.0.0.1:${ports[0]}" --json "$run/replay.json" replay --record "$record" \
  --chunk-tokens "$chunk_tokens" "${arguments[@]}" || {
  grep -qs '"right": false' "$run/replay.json" && die "an answer was wrong: see the table"
  die "the replay failed: see the line above"
}

# Each node asks the others how they are every few seconds.
all_active() {
  (($("$latentctl" --endpoint "127.0.0.1:${ports[0]}" --output json nodes | grep -c '"state": "active"') == nodes))
}
for ((attempt = 0; attempt < 50; ++attempt)); do
  all_active && break
  sleep 0.2
done
"$latentctl" --endpoint "127.0.0.1:${ports[0]}" nodes

# What the planner would do about the sealed chunks that the traces left behind.
cat > "$run/sealed.py" <<'EOF'
import json
import sys

print(",".join(c["id"] for c in json.load(sys.stdin)["chunks"] if c["sealed"]), end=",")
EOF
sealed=
for ((i = 0; i < nodes; ++i)); do
  sealed+=$("$latentctl" --endpoint "127.0.0.1:${ports[i]}" --output json chunks | python3 "$run/sealed.py")
done
sealed=$(tr -s , <<<"$sealed" | sed 's/^,//; s/,$//')
if [[ -n $sealed ]]; then
  say "the planner's view of these chunks, for 16 rows over 16 steps:"
  "$latentctl" --endpoint "127.0.0.1:${ports[0]}" explain --calibrate --rows 16 --steps 16 --cache 64MiB \
    --chunks "$sealed" || die "the planner has no view"
fi

if ((keep)); then
  disown -a
  say "left running; configurations and logs stay in $run"
  say "  look:  $latentctl --endpoint 127.0.0.1:${ports[0]} status"
  say "  stop:  kill ${pids[*]}; rm -r $run"
fi
