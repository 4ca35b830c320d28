#!/usr/bin/env bash
# All checks and all tests, on a Debian machine with Rust; what else is missing is installed.
#
#   BRURI_REQUIRE_DOCKER=1     a part that needs Docker fails where there is no daemon, else it is skipped
#   BRURI_INSIDE_CONTAINER=1   set by tests/container.sh, which calls this in a fresh container: only what a machine may
#                              lack is tried there, each crate's own tests and whole sites that start, stop and crash
#   BRURI_SCHEDULES            how many schedules the simulation runs; 1000 where this says nothing
#   CARGO_BUILD_JOBS           how many compilers at once; all processors by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# No part may run longer.
readonly PART_SECONDS_MAX=5400

passed=0 failed=0 skipped=0
scratch='' part='' postgres_user=()

main() {
  trap stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  export CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-$(nproc)}"
  command -v cargo >/dev/null || { echo "run: no cargo here; see https://rustup.rs" >&2; exit 1; }

  tests/setup.sh
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/bruri-run.XXXXXX")
  start_postgres

  run_part check cargo xtask check
  run_part build cargo build --workspace
  if [ -n "${BRURI_INSIDE_CONTAINER:-}" ]; then
    run_tests --workspace --lib --bins
    run_tests --workspace --test e2e -- running
  else
    export BRURI_SCHEDULES="${BRURI_SCHEDULES:-1000}"
    run_tests --workspace
    run_docker_part container tests/container.sh
  fi

  echo
  echo "$passed passed, $failed failed, $skipped skipped in $((SECONDS / 60)) min $((SECONDS % 60)) s"
  [ "$failed" -eq 0 ]
}

# A Postgres for this run only: on a Unix socket, nothing kept, so nothing need be synced to disk.
start_postgres() {
  local programs data
  programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
  data=$scratch/postgres
  mkdir -m 700 "$data"
  if [ "$(id -u)" -eq 0 ]; then
    # It refuses to run as root.
    postgres_user=(setpriv --reuid=postgres --regid=postgres --init-groups --)
    chmod 711 "$scratch"
    chown postgres: "$data"
  fi
  as_postgres "$programs/initdb" --pgdata="$data/cluster" --username=bruri --auth=trust \
    --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null
  # In a session of its own (pg_ctl sees to it), so that Ctrl-C reaches us first.
  as_postgres "$programs/pg_ctl" start --wait --silent --pgdata="$data/cluster" --log="$data/log" \
    --options="-k '$data' -c listen_addresses='' -c fsync=off -c full_page_writes=off \
      -c max_connections=300"
  postgres_programs=$programs
  export DATABASE_URL="postgres://bruri@localhost/postgres?host=$data"
}

as_postgres() {
  (cd / && "${postgres_user[@]}" "$@")
}

# Runs on every way out: ends the part that runs, then Postgres, then removes what was made.
stop() {
  trap '' INT TERM
  if [ -n "$part" ]; then
    kill -TERM -- "-$part" 2>/dev/null || true
    wait "$part" 2>/dev/null || true
  fi
  if [ -n "${postgres_programs:-}" ]; then
    as_postgres "$postgres_programs/pg_ctl" stop --silent --mode=immediate \
      --pgdata="$scratch/postgres/cluster" || true
  fi
  [ -z "$scratch" ] || rm -rf "$scratch"
}

# Counts as one: `run_part NAME COMMAND…`.
run_part() {
  local name=$1 result=0
  shift
  bounded "$@" || result=$?
  if [ "$result" -eq 0 ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $name (exit code $result)"
  fi
}

run_docker_part() {
  if docker info >/dev/null 2>&1; then
    run_part "$@"
  elif [ "${BRURI_REQUIRE_DOCKER:-}" = 1 ]; then
    failed=$((failed + 1))
    echo "FAILED: $1: no Docker daemon, and BRURI_REQUIRE_DOCKER=1"
  else
    skipped=$((skipped + 1))
    echo "SKIPPED: $1: no Docker daemon"
  fi
}

# Counts each test as cargo reports it: `run_tests ARGUMENT…`, those of `cargo test`.
run_tests() {
  local log=$scratch/tests.log result=0 ok bad ignored
  bounded bash -o pipefail -c 'log=$1; shift; cargo test --no-fail-fast "$@" 2>&1 | tee "$log"' _ "$log" "$@" ||
    result=$?
  ok=$(total "$log" passed)
  bad=$(total "$log" failed)
  ignored=$(total "$log" ignored)
  passed=$((passed + ok))
  failed=$((failed + bad))
  skipped=$((skipped + ignored + $(grep -c '^SKIPPED:' "$log" || true)))
  # It did not compile, or a test took its process down with it.
  if [ "$result" -ne 0 ] && [ "$bad" -eq 0 ]; then
    failed=$((failed + 1))
    echo "FAILED: tests (exit code $result)"
  fi
}

# Sums `N passed`, `N failed` or `N ignored` over the `test result:` lines of a log.
total() {
  sed -n "s/^test result:.* \([0-9][0-9]*\) $2;.*/\1/p" "$1" | awk '{ sum += $1 } END { print sum + 0 }'
}

# Runs a command in a process group of its own, so that all of it ends with us, and not for ever.
bounded() {
  local result=0
  set -m
  timeout --kill-after=30 "$PART_SECONDS_MAX" "$@" &
  part=$!
  set +m
  wait "$part" || result=$?
  part=''
  return "$result"
}

main "$@"
