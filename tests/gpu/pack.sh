#!/bin/bash
# Builds the GPU programs and puts them, with the shared libraries they need, into a folder that
# runs on a machine with a GPU and nothing else of ours.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tests/gpu/pack.sh [FOLDER]

FOLDER is build/gpu unless given; its contents are replaced. Take it, and tests/gpu/run.sh, to a
machine with a GPU and run: tests/gpu/run.sh FOLDER

Environment:
  LATENTD_OUTPUT_BASE   Bazel's --output_base
END
}

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
case ${1:-} in
  -h|--help) usage; exit 0 ;;
esac
folder=${1:-build/gpu}
startup=()
[[ -n ${LATENTD_OUTPUT_BASE:-} ]] && startup=("--output_base=$LATENTD_OUTPUT_BASE")

programs=(attention_gpu_test attention_gpu_benchmark)
bazel "${startup[@]}" build "${programs[@]/#/\/\/kernels\/cuda:}"
bin=$(bazel "${startup[@]}" info bazel-bin 2>/dev/null)

rm -rf "$folder"
mkdir -p "$folder/lib"
for program in "${programs[@]}"; do
  install -m 755 "$bin/kernels/cuda/$program" "$folder/$program"
  strip -d "$folder/$program"
  # glibc is the other machine's own.
  ldd "$folder/$program" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' |
    { grep -vE '/(libc|libm|libpthread|libdl|librt)\.so' || true; } |
    while read -r library; do cp -Ln "$library" "$folder/lib/"; done
done
du -sh "$folder"
