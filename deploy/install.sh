#!/bin/bash
# Builds latentd and installs it where systemd and a shell find it.
set -euo pipefail

usage() {
  cat <<'END'
Usage: deploy/install.sh [--prefix DIR] [--destdir DIR] [--programs DIR]

Builds latentd, latentctl and latent-bench and installs, as root:

  PREFIX/bin/                             the programs
  PREFIX/lib/latentd/                     the UCX that they were built with
  PREFIX/share/doc/latentd/               pages for operators, every key of the configuration
  /etc/latentd/latentd.yaml               a configuration to change; one that is there is left alone
  /etc/systemd/system/latentd.service     the unit, neither enabled nor started
  /etc/sysusers.d/latentd.conf            its user, who is created

Other libraries are Debian's: the machine has the packages that deploy/setup.sh installs. For a
machine without them there is `bazel build //deploy:bundle` (see deploy/README.md).

  --prefix DIR     default /usr; not below /home or /root, which the unit cannot see
  --destdir DIR    put everything below DIR instead of / (for packages); creates no user
  --programs DIR   take the three programs from DIR instead of building them
  --help           this text

Run it again to install a newer version, then `systemctl restart latentd`, which empties the cache.
To uninstall: `systemctl disable --now latentd`, remove PREFIX/bin/latentd, PREFIX/bin/latentctl,
PREFIX/bin/latent-bench, PREFIX/lib/latentd, PREFIX/share/doc/latentd, both files of /etc above and
/etc/latentd, `systemctl daemon-reload`, and `userdel latentd`. latentd keeps nothing else on disk.

Environment:
  LATENTD_OUTPUT_BASE   Bazel's --output_base
END
}

say() { echo "install: $*"; }
die() { echo "install: error: $*" >&2; exit 1; }
usage_error() { echo "install: $*" >&2; usage >&2; exit 2; }

prefix=/usr
destdir=
programs=
while (($# > 0)); do
  option=$1
  case $option in
    -h|--help) usage; exit 0 ;;
    --*=*) set -- "${option%%=*}" "${option#*=}" "${@:2}"; continue ;;
    --prefix|--destdir|--programs) (($# >= 2)) || usage_error "$option needs a value" ;;
    *) usage_error "unknown argument: $option" ;;
  esac
  case $option in
    --prefix) prefix=${2%/} ;;
    --destdir) destdir=$(realpath -m "$2") ;;
    --programs) programs=$(realpath -e "$2") || die "--programs $2: no such folder" ;;
  esac
  shift 2
done
[[ $prefix =~ ^/[A-Za-z0-9._/+-]+$ ]] || usage_error "--prefix takes an absolute path, not '$prefix'"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -z $programs ]]; then
  startup=()
  [[ -z ${LATENTD_OUTPUT_BASE:-} ]] || startup=("--output_base=$LATENTD_OUTPUT_BASE")
  targets=(//daemon:latentd //tools:latentctl //tools:latent-bench)
  say "building (see deploy/quickstart.sh --help for how long)"
  bazel "${startup[@]}" build --config=release "${targets[@]}" </dev/null || die "the build failed"
  bin=$(bazel "${startup[@]}" info --config=release bazel-bin 2>/dev/null </dev/null)
  programs=$(mktemp -d)
  trap 'rm -rf "$programs"' EXIT
  cp -L "$bin"/daemon/latentd "$bin"/tools/{latentctl,latent-bench} "$programs/"
fi

bin=$destdir$prefix/bin
lib=$destdir$prefix/lib/latentd
doc=$destdir$prefix/share/doc/latentd
etc=$destdir/etc
mkdir -p "$bin" 2>/dev/null && [[ -w $bin ]] || die "cannot write to $bin: run it as root, or with --destdir"

for program in latentd latentctl latent-bench; do
  # Not into the file of a program that runs.
  install -m 755 "$programs/$program" "$bin/.$program.new"
  strip --strip-debug "$bin/.$program.new"
  mv -f "$bin/.$program.new" "$bin/$program"
done

# UCX looks for its modules in the folder `ucx` beside its libraries. Those of the wheel look for the
# CUDA runtime three folders up, as in the wheel.
rm -rf "$lib"
ucp=$(ldd "$bin/latentd" | awk '$1 == "libucp.so.0" { print $3 }')
[[ -e $ucp ]] || die "latentd's UCX (libucp.so.0) is not where it was built with"
ucx=$(dirname "$(readlink -f "$ucp")")
take() { [[ ! -e $1 ]] || install -D -m 644 "$(readlink -f "$1")" "$2/$(basename "$1")"; }
case $ucx in
  /lib/*|/usr/lib/*) ;;  # the system's own
  *)
    for library in "$ucx"/libuc*.so.0; do take "$library" "$lib"; done
    modules=wheel/libucx/lib/ucx
    install -d "$lib/$modules"
    ln -s "$modules" "$lib/ucx"
    for module in "$ucx"/ucx/*.so.0; do
      [[ $module != *perftest* ]] || continue
      take "$module" "$lib/$modules"
      ln -sf "$(basename "$module")" "$lib/$modules/$(basename "${module%.0}")"
    done
    for library in "$ucx"/../../libucx*.libs/libcudart*; do
      take "$library" "$lib/wheel/$(basename "$(dirname "$library")")"
    done
    ;;
esac
for program in latentd latentctl latent-bench; do
  loads=$(env -i "$(command -v ldd)" "$bin/$program")
  ! grep 'not found' <<< "$loads" || die "$bin/$program: a library is missing"
  [[ ! -d $lib || $loads != *" $ucx/"* ]] || die "$bin/$program still takes UCX from $ucx"
done

install -d "$doc" "$etc/latentd" "$etc/systemd/system" "$etc/sysusers.d"
install -m 644 docs/operate.md docs/metrics.md docs/robustness.md config/latentd.example.yaml "$doc/"
sed "s|/usr/bin/latentd|$prefix/bin/latentd|; s|/usr/share/doc|$prefix/share/doc|" \
  deploy/systemd/latentd.service > "$etc/systemd/system/latentd.service"
install -m 644 deploy/systemd/latentd.sysusers "$etc/sysusers.d/latentd.conf"
if [[ -e $etc/latentd/latentd.yaml ]]; then
  say "left as it is: $etc/latentd/latentd.yaml"
else
  install -m 644 deploy/latentd.yaml "$etc/latentd/latentd.yaml"
fi

if [[ -z $destdir ]]; then
  if command -v systemd-sysusers >/dev/null; then systemd-sysusers latentd.conf; fi
  if [[ -d /run/systemd/system ]]; then systemctl daemon-reload; fi
fi
say "installed below ${destdir:-/}"
say "next: change /etc/latentd/latentd.yaml; latentd --check-config /etc/latentd/latentd.yaml; systemctl enable --now latentd"
