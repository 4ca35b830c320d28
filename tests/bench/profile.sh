#!/usr/bin/env bash
# Where the processors' time goes while the sites of lag.sh are under load: by program, and by function of `brurid`
# and of PostgreSQL.
#
#   tests/bench/profile.sh                   the load of lag.sh; its options can be given, e.g. --rate 20
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
tests/setup.sh
if ! command -v perf >/dev/null; then
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq --yes --no-install-recommends -o Dpkg::Use-Pty=0 linux-perf >/dev/null
fi
cargo build --release --quiet --bins -p bruri-server -p bruri-cli -p bruri-tests
programs=$(cargo metadata --format-version 1 --no-deps |
  sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The second of two measurements is looked at: the first one warms up, and tells when it is over.
"$programs/bruri-bench" mesh --rounds 2 --seconds 20 "$@" >"$folder/lags" &
bench=$!
until grep -q '^all lines good' "$folder/lags"; do
  kill -0 "$bench" 2>/dev/null || { wait "$bench"; exit 1; }
  sleep 0.2
done
sites=$(pgrep --parent "$bench" --exact brurid | paste -sd,)
databases=$(pgrep --exact postgres | paste -sd,)
perf record --quiet --all-cpus --freq 499 --output "$folder/samples" -- sleep 15
wait "$bench"

report() {
  perf report --input "$folder/samples" --no-children --stdio "$@" 2>/dev/null |
    grep -v '^#' | sed -E '/^$/d; s/( +-)* *$//'
}
cat "$folder/lags"
printf '\nOf all time, by thread (swapper: none; tokio-rt-worker: brurid, and the phones)\n'
report --percent-limit 1 --sort comm
printf '\nOf all time, by function in the five brurid\n'
report --percent-limit 0.3 --sort dso,symbol --pid "$sites" | head -n 40
printf '\nOf all time, by function in their PostgreSQL\n'
report --percent-limit 0.3 --sort dso,symbol --pid "$databases" | head -n 40
