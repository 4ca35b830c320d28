#!/usr/bin/env bash
# Runs both commands of the README in a fresh Debian container: what they need beyond Rust, they install.
#
# The container has the checkout with what was built in it, so that only what is missing is built again, and
# this machine's Rust and crates, read-only. Its base is debian:bookworm-slim, made with debootstrap from this
# machine's own package source where it is not here yet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly IMAGE=debian:bookworm-slim
checkout=$(pwd -P)
cargo_home=$(realpath "${CARGO_HOME:-$HOME/.cargo}")
rustup_home=$(realpath "${RUSTUP_HOME:-$HOME/.rustup}")
scratch='' container=''

main() {
  trap stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  docker image inspect "$IMAGE" >/dev/null 2>&1 || make_image
  container=$(docker create --init --workdir "$checkout" \
    --volume "$checkout:$checkout" --volume /tmp \
    --volume "$cargo_home:$cargo_home:ro" --volume "$rustup_home:$rustup_home:ro" \
    --env HOME="$HOME" --env CARGO_HOME="$cargo_home" --env RUSTUP_HOME="$rustup_home" \
    --env CARGO_NET_OFFLINE=true --env CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-$(nproc)}" \
    --env BRURI_INSIDE_CONTAINER=1 \
    "$IMAGE" sh -c 'deploy/demo.sh --once && tests/run.sh')
  docker start --attach "$container"
}

make_image() {
  echo "container: making $IMAGE with debootstrap"
  if ! command -v debootstrap >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes debootstrap >/dev/null
  fi
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/bruri-container.XXXXXX")
  local source
  source=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' \
    'Created-By: Packages' | sed -n 's/ bookworm main$//p' | head -n 1)
  debootstrap --variant=minbase bookworm "$scratch/root" ${source:+"$source"} >"$scratch/log" 2>&1 ||
    { tail -n 20 "$scratch/log" >&2; exit 1; }
  tar --create --directory "$scratch/root" . | docker import - "$IMAGE" >/dev/null
}

stop() {
  trap '' INT TERM
  [ -z "$container" ] || docker rm --force --volumes "$container" >/dev/null || true
  [ -z "$scratch" ] || rm -rf "$scratch"
}

main "$@"
