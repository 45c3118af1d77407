#!/bin/bash
# Packs programs and the shared libraries they need into one archive that runs wherever there is
# glibc. Bazel calls it: bazel build //deploy:bundle.
set -euo pipefail

usage() {
  cat <<'END'
Usage: deploy/bundle.sh ARCHIVE PROGRAM...

Writes ARCHIVE (.tar.gz): latentd/bin/PROGRAM, latentd/libexec/PROGRAM and latentd/lib. Programs in
bin/ find the rest from where they are. glibc and the CUDA driver are the other machine's own.
END
}

case ${1:-} in
  -h|--help) usage; exit 0 ;;
esac
(($# >= 2)) || { usage >&2; exit 2; }
archive=$1
shift

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/latentd
mkdir -p "$root/bin" "$root/lib" "$root/libexec"

# Where the programs' UCX lies: not all that comes with it finds its libraries by itself.
ucx=$(for program in "$@"; do ldd "$program"; done | awk '/libucp/ && $3 ~ /^\// { print $3 }' | tail -1)
if [[ -n $ucx ]]; then
  ucx=$(dirname "$(readlink -f "$ucx")")
  beside=("$ucx"/../../libucx*.libs)
  export LD_LIBRARY_PATH=$ucx:${beside[0]}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

# libraries PROGRAM: the paths of what it is linked with, but glibc.
libraries() {
  local missing
  if missing=$(ldd "$1" | grep 'not found'); then
    echo "$1: $missing" >&2
    exit 1
  fi
  ldd "$1" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' |
    { grep -vE '/(libc|libm|libpthread|libdl|librt|libresolv)\.so' || true; }
}

take() { cp -Ln "$1" "$root/lib/"; }

for program in "$@"; do
  name=$(basename "$program")
  install -m 755 "$program" "$root/libexec/$name"
  strip -d "$root/libexec/$name"
  libraries "$program" | while read -r library; do take "$library"; done
  # A library of Debian's has no run path: the loader is told where its own libraries are.
  cat >"$root/bin/$name" <<'END'
#!/bin/sh
self=$(readlink -f "$0")
root=$(dirname "$(dirname "$self")")
export LD_LIBRARY_PATH="$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$root/libexec/$(basename "$self")" "$@"
END
  chmod 755 "$root/bin/$name"
done

# UCX loads its modules from the folder `ucx` beside its libraries, and they what their wheel brings
# along. Those that miss something of this machine's (the CUDA driver) go along all the same.
if [[ -n $ucx ]]; then
  mkdir -p "$root/lib/ucx"
  for module in "$ucx"/ucx/*.so.0; do
    [[ $module == *perftest* ]] || cp -Ln "$module" "$root/lib/ucx/"
  done
  for module in "$root"/lib/ucx/*.so.0; do ln -sf "$(basename "$module")" "${module%.0}"; done
  for library in "$ucx"/../../libucx*.libs/libcudart*; do
    [[ -e $library ]] && take "$library"
  done
fi
strip --strip-debug "$root"/lib/*.so* "$root"/lib/ucx/*.so.0 2>/dev/null || true

tar -C "$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - latentd |
  gzip -n >"$archive"
