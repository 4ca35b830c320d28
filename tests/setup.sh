#!/usr/bin/env bash
# Installs the Debian packages that building, testing and the demo need; says nothing where all are there.
# Rust itself is not among them: see https://rustup.rs.
set -euo pipefail

# Programs, not packages, are looked for: they may have come another way.
missing_packages() {
  command -v cc >/dev/null || echo gcc
  [ -e /usr/include/stdlib.h ] || echo libc6-dev
  command -v curl >/dev/null || echo curl
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || echo postgresql
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "setup: needs root or sudo to run: $*" >&2
    exit 1
  fi
}

install_packages() {
  echo "setup: installing $*"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq --yes --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

# Only the programs of Postgres are wanted, not a cluster that runs from now on.
install_without_cluster() {
  local setting=/etc/postgresql-common/createcluster.d/bruri-setup.conf
  as_root mkdir -p "${setting%/*}"
  echo 'create_main_cluster = false' | as_root tee "$setting" >/dev/null
  local result=0
  install_packages "$@" || result=$?
  as_root rm -f "$setting"
  return "$result"
}

mapfile -t packages < <(missing_packages)
if [ "${#packages[@]}" -eq 0 ]; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "setup: no apt-get here; please install what Debian calls: ${packages[*]}" >&2
  exit 1
fi
install_without_cluster "${packages[@]}"
