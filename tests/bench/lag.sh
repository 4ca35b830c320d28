#!/usr/bin/env bash
# How long a backup takes from the 2xx at one site to the first GET at another, among sites under load.
#
#   tests/bench/lag.sh                       five sites, 50 backups a second at each, 50 ms round trip
#   tests/bench/lag.sh --rate 10             another rate; --help tells what else can be set
#   tests/bench/lag.sh --bad dead            what a dead line to one site costs the others; or --bad narrow
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
tests/setup.sh
cargo build --release --quiet --bins -p bruri-server -p bruri-cli -p bruri-tests
programs=$(cargo metadata --format-version 1 --no-deps |
  sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
exec "$programs/bruri-bench" mesh "$@"
