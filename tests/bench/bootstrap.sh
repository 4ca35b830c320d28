#!/usr/bin/env bash
# How fast a new site gets everything: London has it, Tokyo starts empty beside it.
#
#   tests/bench/bootstrap.sh                 prints what was measured
#   BRURI_BENCH_FILES=200000 …_ROUNDS=5 …_BYTES=2048       so many files, so many versions of each
#   BRURI_BENCH_RATE=200                     phones write at London meanwhile, so many times a second; 0: nobody does
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly FILES=${BRURI_BENCH_FILES:-200000} ROUNDS=${BRURI_BENCH_ROUNDS:-5}
readonly BYTES=${BRURI_BENCH_BYTES:-2048} RATE=${BRURI_BENCH_RATE:-0}
readonly SITES=(london tokyo)
readonly WAIT_SECONDS_MAX=120 COPY_SECONDS_MAX=3600 PACED_SECONDS=20
declare -A address=([london]=127.9.9.8 [tokyo]=127.9.9.7) brurid=()

dir='' programs='' pace=''

main() {
  trap stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  # Settings of whoever runs this are for another brurid.
  unset "${!BRURI_@}"
  export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  tests/setup.sh
  cargo build --release --quiet --bins -p bruri-server -p bruri-cli -p bruri-tests
  programs=$(cargo metadata --format-version 1 --no-deps |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
  make_sites
  start london
  wait_ready london
  echo "filling London: $FILES files, $ROUNDS versions each, $BYTES bytes"
  "$programs/bruri-bench" fill "${address[london]}:18080" --files "$FILES" --rounds "$ROUNDS" \
    --bytes "$BYTES" --connections 32
  if [ "$RATE" -gt 0 ]; then
    echo "phones at London, $RATE/s, before Tokyo starts:"
    put_at_rate "$PACED_SECONDS"
    set -m
    keep_putting >"$dir/pace" &
    pace=$!
    set +m
  fi
  measure
}

make_sites() {
  dir=$(mktemp -d "${TMPDIR:-/tmp}/bruri-bootstrap.XXXXXX")
  # As root the private Postgres runs as another user, who must pass through.
  chmod 755 "$dir"
  "$programs/bruri" pki init --deployment bench --dir "$dir/pki" >/dev/null
  local site
  for site in "${SITES[@]}"; do
    mkdir "$dir/$site"
    "$programs/bruri" pki issue "$site" --dir "$dir/pki" --out "$dir/$site/pki" >/dev/null
    cat >"$dir/$site/brurid.toml" <<END
[site]
name = "$site"
data_dir = "$dir/$site"
[edge]
http = ["${address[$site]}:18080"]
[replication]
listen = "${address[$site]}:17440"
peers = ["${address[london]}:17440", "${address[tokyo]}:17440"]
advertise = "${address[$site]}:17440"
[telemetry]
metrics = "${address[$site]}:19464"
END
  done
}

start() {
  # In a process group of its own: Ctrl-C reaches us first, and we stop it in order.
  set -m
  "$programs/brurid" serve --config "$dir/$1/brurid.toml" >"$dir/$1/log" 2>&1 &
  brurid[$1]=$!
  set +m
}

wait_ready() {
  local end=$((SECONDS + WAIT_SECONDS_MAX))
  until curl --silent --fail --output /dev/null --max-time 2 "http://${address[$1]}:19464/readyz"; do
    lives_until "$1" "$end"
    sleep 0.05
  done
}

lives_until() {
  if ! kill -0 "${brurid[$1]}" 2>/dev/null || [ "$SECONDS" -ge "$2" ]; then
    tail -n 50 "$dir/$1/log" >&2
    return 1
  fi
}

put_at_rate() {
  "$programs/bruri-bench" pace "${address[london]}:18080" --rate "$RATE" --seconds "$1" \
    --files "$FILES" --bytes "$BYTES" --connections 8
}

# One line for each stretch of time.
keep_putting() {
  while put_at_rate "$PACED_SECONDS"; do :; done
}

measure() {
  local began served copied whole end
  began=$(millis)
  end=$((SECONDS + COPY_SECONDS_MAX))
  start tokyo
  until curl --silent --fail --output /dev/null --max-time 5 \
    "http://${address[tokyo]}:18080/$(printf '%08d' $((FILES - 1)))_96xxdata.txt"; do
    lives_until tokyo "$end"
    sleep 0.05
  done
  served=$(millis)
  wait_log 'all states of files are here' "$end"
  copied=$(millis)
  wait_log 'the history that the snapshot passed over is filled in' "$end"
  whole=$(millis)
  local versions=$((FILES * ROUNDS))
  echo "first GET after $(seconds $((served - began))), all states after $(seconds $((copied - began)))," \
    "all of $versions versions after $(seconds $((whole - began))):" \
    "$((versions * 1000 / (whole - began))) versions/s"
  if [ "$RATE" -gt 0 ]; then
    echo "phones at London meanwhile, $PACED_SECONDS s a line:"
    cat "$dir/pace"
  fi
}

wait_log() {
  until grep --quiet "$1" "$dir/tokyo/log"; do
    lives_until tokyo "$2"
    sleep 0.1
  done
}

millis() { date +%s%3N; }

seconds() { awk -v millis="$1" 'BEGIN { printf "%.1f s", millis / 1000 }'; }

# Runs on every way out; ends only what we started.
stop() {
  trap '' INT TERM
  local process
  if [ -n "$pace" ]; then
    kill -TERM -- "-$pace" 2>/dev/null || true
    wait "$pace" 2>/dev/null || true
  fi
  for process in "${brurid[@]}"; do
    kill -TERM "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
  done
  [ -z "$dir" ] || rm -rf "$dir"
}

main "$@"
