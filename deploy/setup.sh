#!/bin/bash
# Installs what building and testing latentd needs, from Debian's packages and PyPI.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: deploy/setup.sh [--help]

Installs the build's Debian packages that are missing (as root or through sudo)
and unpacks the UCX wheel from PyPI. Running it again is fast and changes nothing.

Environment:
  LATENTD_DEPS   where the UCX wheel is unpacked (default: ~/.cache/latentd)
  UCX_HOME       an installed UCX to build with; the wheel is then not needed
EOF
}

say() { echo "setup: $*"; }
die() { echo "setup: error: $*" >&2; exit 1; }

case "${1:-}" in
  -h|--help) usage; exit 0 ;;
  '') ;;
  *) usage >&2; exit 2 ;;
esac

UCX_VERSION=1.22.0
UCX_PACKAGE="libucx-cu13==${UCX_VERSION}"

PACKAGES=(
  # Build tools
  bazel-bootstrap bazel-rules-java bazel-rules-proto bazel-skylib bazel-platforms
  g++ pkg-config python3 python3-pip git ca-certificates
  # Libraries
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libabsl-dev
  libyaml-cpp-dev catch2 libbenchmark-dev prometheus-cpp-dev libspdlog-dev libhwy-dev
  libsystemd-dev nlohmann-json3-dev libxxhash-dev libcli11-dev libssl-dev
  # What the tests run
  iproute2 openssl systemd curl procps util-linux etcd-server libfaketime
)

[[ -r /etc/os-release ]] || die "no /etc/os-release: this script is for Debian 12 (bookworm)"
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
os_name=$(. /etc/os-release && echo "${PRETTY_NAME:-unknown}")
[[ $codename == bookworm ]] || die "this script is for Debian 12 (bookworm); found: $os_name"
command -v apt-get >/dev/null || die "apt-get not found"

if [[ -z ${HOME:-} ]]; then
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
  export HOME
fi

missing=()
for package in "${PACKAGES[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done

if ((${#missing[@]} == 0)); then
  say "Debian packages: all present"
else
  root=()
  if (($(id -u) != 0)); then
    command -v sudo >/dev/null || die "not root and no sudo; missing packages: ${missing[*]}"
    root=(sudo)
  fi
  say "Debian packages, some quiet minutes: installing ${missing[*]}"
  apt_get() {
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 \
      -o Dpkg::Use-Pty=0 "$@" </dev/null
  }
  apt_get update || die "apt-get update failed"
  apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get could not install: ${missing[*]}"
fi

if [[ -n ${UCX_HOME:-} ]]; then
  [[ -e $UCX_HOME/include/ucp/api/ucp.h ]] || die "UCX_HOME=$UCX_HOME has no include/ucp/api/ucp.h"
  say "UCX: using UCX_HOME=$UCX_HOME"
else
  deps=${LATENTD_DEPS:-$HOME/.cache/latentd}
  target=$deps/ucx-$UCX_VERSION
  mkdir -p "$deps"
  exec 9>"$deps/.lock"
  flock 9  # another setup.sh may be unpacking the same wheel
  if [[ -e $target/libucx/include/ucp/api/ucp.h ]]; then
    say "UCX $UCX_VERSION: present in $target"
  else
    say "UCX $UCX_VERSION: installing $UCX_PACKAGE into $target"
    partial=$(mktemp -d "$deps/.ucx.XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    /usr/bin/python3 -m pip install --quiet --disable-pip-version-check --no-input \
      --root-user-action=ignore --no-deps --no-compile --target "$partial/ucx" "$UCX_PACKAGE" \
      </dev/null || die "pip could not install $UCX_PACKAGE; set UCX_HOME to an installed UCX instead"
    rm -rf "$target"
    mv "$partial/ucx" "$target"
  fi
fi
say "done"
