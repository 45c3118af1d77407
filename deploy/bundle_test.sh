#!/bin/bash
# The bundle, unpacked somewhere, runs with nothing of the build's environment, is small enough, and
# brings the modules that UCX loads by itself.
set -euo pipefail

archive=$1
((${archive:+$(stat -Lc %s "$archive")} < 60 << 20)) || { echo "larger than 60 MiB" >&2; exit 1; }
tar -xzf "$archive" -C "$TEST_TMPDIR"
root=$TEST_TMPDIR/latentd
for program in latentd latentctl latent-bench; do
  env -i "$root/bin/$program" --version >/dev/null || env -i "$root/bin/$program" --help >/dev/null
done
# Through a link, too.
ln -s "$root/bin/latentd" "$TEST_TMPDIR/link"
env -i "$TEST_TMPDIR/link" --version
for library in "$root"/lib/lib*.so*; do
  if LD_LIBRARY_PATH=$root/lib ldd "$library" 2>/dev/null | grep 'not found'; then
    echo "$library misses a library" >&2
    exit 1
  fi
done
