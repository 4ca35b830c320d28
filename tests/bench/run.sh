#!/usr/bin/env bash
# How fast one site is: a release build with its private Postgres, and the load generator beside it.
#
#   tests/bench/run.sh                      prints a table
#   BRURI_BENCH_CONNECTIONS=32 …_SECONDS=10 …_BYTES=4096 …_FILES=10000
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly PHONES=127.9.9.9:18080 METRICS=127.9.9.9:19464
readonly WAIT_SECONDS_MAX=120

dir='' programs='' brurid=''

main() {
  trap stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  local options=(
    --connections "${BRURI_BENCH_CONNECTIONS:-32}"
    --seconds "${BRURI_BENCH_SECONDS:-10}"
    --bytes "${BRURI_BENCH_BYTES:-4096}"
    --files "${BRURI_BENCH_FILES:-10000}"
  )
  # Settings of whoever runs this are for another brurid.
  unset "${!BRURI_@}"
  export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  tests/setup.sh
  cargo build --release --quiet --bins -p bruri-server -p bruri-cli -p bruri-tests
  programs=$(cargo metadata --format-version 1 --no-deps |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
  start
  echo "$(nproc) processors, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)," \
    "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release);" \
    "brurid, its PostgreSQL and the load generator together"
  local result=0
  "$programs/bruri-bench" put "$PHONES" "${options[@]}" || result=1
  "$programs/bruri-bench" get "$PHONES" "${options[@]}" || result=1
  return "$result"
}

start() {
  dir=$(mktemp -d "${TMPDIR:-/tmp}/bruri-bench.XXXXXX")
  # As root the private Postgres runs as another user, who must pass through.
  chmod 755 "$dir"
  # In a process group of its own: Ctrl-C reaches us first, and we stop it in order.
  set -m
  BRURI_SITE__NAME=bench BRURI_SITE__DATA_DIR=$dir/data BRURI_EDGE__HTTP=$PHONES \
    BRURI_TELEMETRY__METRICS=$METRICS "$programs/brurid" serve >"$dir/log" 2>&1 &
  brurid=$!
  set +m
  local end=$((SECONDS + WAIT_SECONDS_MAX))
  until curl --silent --fail --output /dev/null --max-time 2 "http://$METRICS/readyz"; do
    if ! kill -0 "$brurid" 2>/dev/null || [ "$SECONDS" -ge "$end" ]; then
      cat "$dir/log" >&2
      return 1
    fi
    sleep 0.05
  done
}

# Runs on every way out; ends only what we started.
stop() {
  trap '' INT TERM
  if [ -n "$brurid" ]; then
    kill -TERM "$brurid" 2>/dev/null || true
    wait "$brurid" 2>/dev/null || true
  fi
  [ -z "$dir" ] || rm -rf "$dir"
}

main "$@"
