#!/usr/bin/env bash
# Two branches on this machine: what a phone backs up in London, Tokyo gives back.
#
#   deploy/demo.sh          builds, shows it, and leaves both running until Ctrl-C
#   deploy/demo.sh --once   the same, then stops both; the exit code is the verdict
#
# Needs Rust (https://rustup.rs); what else is missing is installed. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly SITES=(london tokyo)
readonly SERVING_SECONDS_GOAL=3
# A machine that takes longer has another problem than being slow.
readonly WAIT_SECONDS_MAX=120
readonly BACKUP_SECONDS_MAX=10

once='' dir='' programs='' verdict=0
declare -A brurid=() phones=() peers=() metrics=()

main() {
  case "${*:-}" in
    '') ;;
    --once) once=yes ;;
    *) echo "usage: deploy/demo.sh [--once]" >&2; exit 2 ;;
  esac
  trap stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  # Settings of whoever runs this are for another brurid.
  unset "${!BRURI_@}"

  build
  make_sites
  start_sites
  send_and_compare
  show_history
  measure
  tell_how_to_look_around
  if [ -n "$once" ]; then
    if [ "$verdict" -eq 0 ]; then say "all is well"; else say "NOT all is well"; fi
    exit "$verdict"
  fi
  wait_for_the_end
}

say() { echo "demo: $*"; }

fail() {
  verdict=1
  say "FAILED: $*"
}

build() {
  export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  command -v cargo >/dev/null || { say "there is no cargo here; see https://rustup.rs" >&2; exit 1; }
  tests/setup.sh
  say "building; the first time takes some minutes"
  cargo build --release --bins -p bruri-server -p bruri-cli -p bruri-tests
  programs=$(cargo metadata --format-version 1 --no-deps |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
}

# Certificates and a configuration for each site, in a folder that goes with us.
make_sites() {
  dir=$(mktemp -d "${TMPDIR:-/tmp}/bruri-demo.XXXXXX")
  # As root the private Postgres runs as another user, who must pass through.
  chmod 755 "$dir"
  choose_ports
  "$programs/bruri" pki init --deployment demo --dir "$dir/pki" >/dev/null
  local site
  for site in "${SITES[@]}"; do
    mkdir "$dir/$site"
    "$programs/bruri" pki issue "$site" --dir "$dir/pki" --out "$dir/$site/pki" >/dev/null
    configuration "$site" >"$dir/$site/brurid.toml"
  done
}

choose_ports() {
  phones[london]=$(free_port phones london 8080)
  peers[london]=$(free_port peers london 7440)
  metrics[london]=$(free_port metrics london 9464)
  phones[tokyo]=$(free_port phones tokyo 8090)
  peers[tokyo]=$(free_port peers tokyo 7450)
  metrics[tokyo]=$(free_port metrics tokyo 9474)
}

# The port that is wanted, or the next that nobody uses: `free_port phones london 8080`.
free_port() {
  local port=$3
  while is_taken "$port"; do port=$((port + 1)); done
  [ "$port" -eq "$3" ] || say "port $3 is taken; $1 of $2 use $port" >&2
  echo "$port"
}

is_taken() {
  local other
  for other in "${phones[@]}" "${peers[@]}" "${metrics[@]}"; do
    [ "$other" != "$1" ] || return 0
  done
  # Local addresses of sockets that listen, in hexadecimal; of both families, where there are both.
  { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || true; } |
    awk -v port="$(printf ':%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 }
      END { exit !found }'
}

configuration() {
  local site=$1 other others=()
  for other in "${SITES[@]}"; do
    [ "$other" = "$site" ] || others+=("\"127.0.0.1:${peers[$other]}\"")
  done
  cat <<END
[site]
name = "$site"
data_dir = "$dir/$site"
[edge]
http = ["0.0.0.0:${phones[$site]}"]
[replication]
listen = "127.0.0.1:${peers[$site]}"
peers = [$(IFS=,; echo "${others[*]}")]
[telemetry]
metrics = "127.0.0.1:${metrics[$site]}"
END
}

start_sites() {
  local site began
  began=$(millis)
  for site in "${SITES[@]}"; do
    # In a process group of its own: Ctrl-C reaches us first, and we stop it in order.
    set -m
    "$programs/brurid" serve --config "$dir/$site/brurid.toml" >"$dir/$site/log" 2>&1 &
    brurid[$site]=$!
    set +m
  done
  for site in "${SITES[@]}"; do
    until is_ready "$site"; do
      kill -0 "${brurid[$site]}" 2>/dev/null || give_up "brurid of $site has ended"
      [ $(($(millis) - began)) -lt $((WAIT_SECONDS_MAX * 1000)) ] || give_up "$site is not ready"
      sleep 0.02
    done
  done
  local took=$(($(millis) - began))
  say "${SITES[*]} serve, ${took} ms after their start"
  # Said, not judged: a busy machine is no fault of the sites, and the verdict is about the bytes.
  [ "$took" -lt $((SERVING_SECONDS_GOAL * 1000)) ] ||
    say "that is more than the $SERVING_SECONDS_GOAL s that an idle machine with 2 processors takes"
}

is_ready() {
  curl --silent --fail --output /dev/null --max-time 2 "http://127.0.0.1:${metrics[$1]}/readyz"
}

millis() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# What was promised cannot be shown.
give_up() {
  local site
  for site in "${SITES[@]}"; do
    say "the last lines of $site:"
    tail -n 20 "$dir/$site/log" || true
  done
  say "FAILED: $*"
  exit 1
}

send_and_compare() {
  local file name bytes
  say "each sample goes to london as a phone would send it, and comes back from tokyo:"
  mkdir "$dir/got"
  for file in tests/samples/*data.txt; do
    name=${file##*/}
    bytes=$(stat -c %s "$file")
    if ! "$programs/bruri" phone put "$(url london)" "$file" >"$dir/said" 2>&1; then
      fail "PUT $name: $(cat "$dir/said")"
    elif arrives "$file" "$dir/got/$name"; then
      printf '  %-20s %6d bytes, the same\n' "$name" "$bytes"
    else
      fail "$name does not come back as it was"
    fi
  done
}

# Restores in tokyo until what comes is what was sent.
arrives() {
  local end=$((SECONDS + BACKUP_SECONDS_MAX))
  until "$programs/bruri" phone get "$(url tokyo)" "$2" >"$dir/said" 2>&1 && cmp -s "$1" "$2"; do
    [ "$SECONDS" -lt "$end" ] || return 1
  done
}

url() { echo "http://127.0.0.1:${phones[$1]}/"; }

show_history() {
  local file=2593_96xxdata.txt
  say "the history of $file, as tokyo knows it:"
  # A second version: the next log-out.
  cp "tests/samples/$file" "$dir/$file"
  printf 'C\0L\0N\0A\0M\0E\0009\0009\0009\0=\0M\0a\0x\0\r\0\n\0' >>"$dir/$file"
  "$programs/bruri" phone put "$(url london)" "$dir/$file" >"$dir/said" 2>&1 || fail "$(cat "$dir/said")"
  arrives "$dir/$file" "$dir/got/$file" || fail "the second version of $file is not in tokyo"
  "$programs/bruri" --site "unix:$dir/tokyo/ops.sock" history list "$file" | sed 's/^/  /' ||
    fail "tokyo does not show the history"
}

measure() {
  local lag
  if lag=$("$programs/bruri-bench" lag "127.0.0.1:${phones[london]}" "127.0.0.1:${phones[tokyo]}" 2>&1); then
    say "from the 2xx in london to the first GET in tokyo that has it, 100 times: $lag"
  else
    fail "$lag"
  fi
}

tell_how_to_look_around() {
  local host site
  host=$(hostname -I 2>/dev/null | awk '{ print $1 }')
  host=${host:-127.0.0.1}
  echo
  say "point a phone here, in its 46xxsettings.txt:"
  for site in "${SITES[@]}"; do
    echo "  SET BRURI http://$host:${phones[$site]}/    for a phone in $site"
  done
  say "look around:"
  for site in "${SITES[@]}"; do
    echo "  $programs/bruri --site unix:$dir/$site/ops.sock site status"
  done
  echo "  $programs/bruri --site unix:$dir/london/ops.sock history files"
  echo "  $programs/bruri phone get $(url tokyo) 2593_96xxdata.txt"
  for site in "${SITES[@]}"; do
    echo "  curl http://127.0.0.1:${metrics[$site]}/metrics    and the log: $dir/$site/log"
  done
}

wait_for_the_end() {
  say "both run until Ctrl-C"
  local site
  wait -n "${brurid[@]}" || true
  for site in "${SITES[@]}"; do
    kill -0 "${brurid[$site]}" 2>/dev/null || give_up "brurid of $site has ended"
  done
}

# Runs on every way out; ends only what we started.
stop() {
  trap '' INT TERM
  local site
  for site in "${!brurid[@]}"; do
    kill -TERM "${brurid[$site]}" 2>/dev/null || true
  done
  for site in "${!brurid[@]}"; do
    wait "${brurid[$site]}" 2>/dev/null || true
    stop_left_postgres "$site"
  done
  [ -z "$dir" ] || rm -rf "$dir"
}

# A brurid that was killed leaves its Postgres behind.
stop_left_postgres() {
  local lock="$dir/$1/postgres/data/postmaster.pid" process
  [ -e "$lock" ] || return 0
  process=$(head -n 1 "$lock")
  if tr '\0' ' ' <"/proc/$process/cmdline" 2>/dev/null | grep -q --fixed-strings "$dir/$1/"; then
    kill -QUIT "$process" 2>/dev/null || true
  fi
}

main "$@"
