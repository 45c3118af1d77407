#!/bin/bash
# An installation needs nothing of the build's: no UCX in a home folder, no environment. And it is
# complete: programs, unit, user, configuration.
set -euo pipefail

programs=$TEST_TMPDIR/programs
root=$TEST_TMPDIR/root
mkdir -p "$programs"
cp -L "$@" "$programs/"
ucx=$(dirname "$(readlink -f "$(ldd "$programs/latentd" | awk '$1 == "libucp.so.0" { print $3 }')")")
fail() { echo "FAIL: $*" >&2; exit 1; }

deploy/install.sh --help | grep -q uninstall || fail "--help does not say how to uninstall"
deploy/install.sh --prefix /opt/latentd --destdir "$root" --programs "$programs"
bin=$root/opt/latentd/bin

clean() { env -i HOME=/nonexistent PATH=/usr/bin:/bin "$@"; }
for program in latentd latentctl latent-bench; do
  clean "$bin/$program" --version
  libraries=$(clean ldd "$bin/$program")
  ! grep 'not found' <<< "$libraries" || fail "$program lacks libraries"
  [[ $ucx == /lib/* || $ucx == /usr/lib/* ]] || ! grep -F "$ucx/" <<< "$libraries" || fail "$program uses the build's UCX"
done
grep -q '^ExecStart=/opt/latentd/bin/latentd ' "$root/etc/systemd/system/latentd.service" || fail "unit"
grep -q '^u latentd ' "$root/etc/sysusers.d/latentd.conf" || fail "user"
clean "$bin/latentd" --check-config "$root/etc/latentd/latentd.yaml"

# UCX's modules are loaded when it runs.
sed -e 's/7400/0/; s/listen: 127.0.0.1:7401/listen: off/; s/1GiB/64MiB/; s/deepseek-v3 /{ name: t, layers: 1, latent: 512, rope: 64, heads: 16 } /' \
  "$root/etc/latentd/latentd.yaml" > "$TEST_TMPDIR/run.yaml"
env -i HOME=/nonexistent "$bin/latentd" --config "$TEST_TMPDIR/run.yaml" 2> "$TEST_TMPDIR/log" &
pid=$!
for ((i = 0; i < 300; ++i)); do
  grep -q ' ready ' "$TEST_TMPDIR/log" && break
  kill -0 "$pid" || { cat "$TEST_TMPDIR/log"; fail "latentd did not start"; }
  sleep 0.1
done
maps=$(awk '{ print $6 }' "/proc/$pid/maps" | sort -u)
kill "$pid"
wait "$pid" || fail "latentd exited with $?"
case $ucx in
  /lib/*|/usr/lib/*) ;;
  *)
    ! grep -F "$ucx/" <<< "$maps" || fail "loaded from the build's UCX"
    for library in libucp $([[ ! -e $ucx/ucx/libuct_cma.so.0 ]] || echo libuct_cma); do
      grep -q "$root/opt/latentd/lib/latentd/.*$library" <<< "$maps" || fail "no installed $library: $maps"
    done
    ;;
esac

# What somebody configured stays.
echo '# mine' >> "$root/etc/latentd/latentd.yaml"
deploy/install.sh --prefix=/opt/latentd --destdir="$root" --programs="$programs" >/dev/null
grep -q '^# mine' "$root/etc/latentd/latentd.yaml" || fail "the configuration was overwritten"
echo ok
