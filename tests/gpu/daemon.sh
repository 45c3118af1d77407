# A daemon on the GPU and its clients in processes of their own. run.sh sources this; uses its
# `programs`, `run`, `log`, `benchmark`, `table` and `step`.

# The traces were recorded from up to two layers of DeepSeek-V3's geometry.
model='{ name: trace-2-layers, layers: 2, latent: 512, rope: 64, heads: 128 }'
endpoint=127.0.0.1:17400
daemon_pid=

# write_config RECORD TRANSPORTS DEVICE CACHE
write_config() {
  cat >"$run/latentd.yaml" <<END
node: { id: node-a, advertise: 127.0.0.1 }
control: { listen: "$endpoint" }
data:
  transports: $2
  lanes: [{ device: "$3", cache: $4 }]
  lane: { idle: poll }
model: $model
record: $1
metrics: { listen: off }
END
}

# start_daemon RECORD TRANSPORTS
start_daemon() {
  local attempt
  write_config "$1" "$2" cuda:0 8GiB
  "$programs/latentd" --config "$run/latentd.yaml" 2>"$run/latentd.log" </dev/null &
  daemon_pid=$!
  for ((attempt = 0; attempt < 300; ++attempt)); do
    "$programs/latentctl" --endpoint "$endpoint" status >/dev/null 2>&1 && return 0
    kill -0 "$daemon_pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$run/latentd.log"
  return 1
}

# Passed if the daemon ends in good order.
stop_daemon() {
  kill -TERM "$daemon_pid" 2>/dev/null
  wait "$daemon_pid" && return 0
  cat "$run/latentd.log"
  return 1
}

# refused DEVICE CACHE WORDS: the daemon does not start, and says why.
refused() {
  write_config bf16 auto "$1" "$2"
  timeout 60 "$programs/latentd" --config "$run/latentd.yaml" >"$run/latentd.log" 2>&1 </dev/null
  local status=$?
  cat "$run/latentd.log"
  ((status == 1)) && grep -qE "$3" "$run/latentd.log"
}

# replay RECORD OUT CHUNK_TOKENS OPTION...
replay() {
  "$programs/latent-bench" --endpoint "$endpoint" "${@:4}" replay --record "$1" --out "$2" \
    --chunk-tokens "$3" $(printf -- '--trace %s ' tests/data/*.safetensors)
}

# Several processes share the GPU without taking turns; without it, as on machines that do not allow
# it, each waits for the others' time slices.
mps=
start_mps() {
  command -v nvidia-cuda-mps-control >/dev/null || { echo "no MPS here"; return 1; }
  export CUDA_MPS_PIPE_DIRECTORY=$run/mps CUDA_MPS_LOG_DIRECTORY=$run/mps
  mkdir -p "$run/mps"
  nvidia-cuda-mps-control -d && mps=1
}
stop_mps() { [[ -z $mps ]] || echo quit | nvidia-cuda-mps-control; }

# latency TRANSPORT NAME ARGUMENT...: a row of the table from latent-bench's report.
latency() {
  local transport=$1 name=$2
  shift 2
  step "latency, $transport, $name" "$programs/latent-bench" --endpoint "$endpoint" \
    --transports "$transport" --spin 1000000 latency --duration 2 --warmup 300 "$@" || return
  row "$transport" "$name" "$(awk '
    / queries\/s, / { rate = $1 }
    $1 == "total" { total = $2 "/" $4 }
    $1 == "queue" || $1 == "compute" || $1 == "beyond" { parts = parts sprintf("%9s", $2) }
    END { printf "%18s%s%12s", total, parts, rate }' "$log")"
}

# row TRANSPORT NAME FIGURES
row() { table+=("$(printf '%-8s %-34s %s' "$@")"); }

latencies() {
  local heads
  for heads in 128 16; do
    step "the wire alone, $1, $heads heads" "$programs/latent-bench" --endpoint "$endpoint" \
      --transports "$1" --spin 1000000 transport --heads "$heads" --duration 1
  done
  latency "$1" "1 x 128 heads, 2k" --heads 128
  latency "$1" "2 x 128 heads, 2k" --heads 128 --query-tokens 2
  latency "$1" "8 x 128 heads, 2k" --heads 128 --query-tokens 8
  latency "$1" "1 x 16 heads, 2k" --heads 16
  latency "$1" "16 heads, 2k, 64 in flight" --heads 16 --concurrency 64 --requests 100000
}

# With queries and answers in the GPU's memory, as frontends on the same machine have them.
latencies_on_device() {
  local on_device=(--memory cuda:0)
  latency "$1" "GPU memory, 1 x 16 heads, 2k" --heads 16 "${on_device[@]}"
  latency "$1" "GPU memory, 1 x 128 heads, 2k" --heads 128 "${on_device[@]}"
  latency "$1" "GPU memory, 2 x 128 heads, 2k" --heads 128 --query-tokens 2 "${on_device[@]}"
  latency "$1" "GPU memory, 8 x 128 heads, 2k" --heads 128 --query-tokens 8 "${on_device[@]}"
  latency "$1" "GPU memory, 16 heads, 64 in flight" --heads 16 --concurrency 64 --requests 100000 \
    "${on_device[@]}"
}

test_daemon() {
  step "a device that is not there is refused" refused cuda:9 1GiB 'cuda:9 is not there'
  step "a cache beyond the free memory is refused" refused cuda:0 900GiB 'GiB free'
  local record
  for record in bf16 fp8; do
    step "start, $record" start_daemon "$record" auto || continue
    step "replay, $record, chunks of 128" replay "$record" bf16 128
    step "replay, $record, chunks of 1000, fp32 answers" replay "$record" fp32 1000
    step "replay, $record, GPU memory" replay "$record" bf16 128 --memory cuda:0
    if ((benchmark)) && [[ $record == bf16 ]]; then latencies tcp; fi
    step "stop, $record" stop_daemon
  done
  ((benchmark)) || return
  step "start, shm" start_daemon bf16 '[shm]' || return
  latencies shm
  step "stop, shm" stop_daemon
  start_mps
  step "start, shm and cuda" start_daemon bf16 '[shm, cuda]' || return
  step "replay, cuda, GPU memory" replay bf16 bf16 128 --transports shm,cuda --memory cuda:0
  latencies_on_device shm,cuda
  step "stop, shm and cuda" stop_daemon
  stop_mps
}
