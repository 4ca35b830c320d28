#!/usr/bin/env bash
# Feeds the phone file's reader with bytes that libFuzzer makes up, for so many seconds (60 by default):
#
#   tests/fuzz.sh 3600
#
# What it learns stays in fuzz/corpus, so the next run goes on from there; it begins with tests/samples.
# A body that breaks a rule is left in fuzz/artifacts, and the exit code is not 0.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly SECONDS_DEFAULT=60 CARGO_FUZZ=0.13.2
# Longer ones are only slower: nothing in the reader depends on more than a few characters.
readonly BODY_BYTES_MAX=8192

seconds=${1:-$SECONDS_DEFAULT}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "fuzz: how many seconds? e.g. tests/fuzz.sh 60" >&2; exit 2; }
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
command -v cargo-fuzz >/dev/null ||
  cargo install --quiet --locked "cargo-fuzz@$CARGO_FUZZ"
command -v c++ >/dev/null || { echo "fuzz: needs a C++ compiler: apt-get install g++" >&2; exit 1; }

mkdir -p fuzz/corpus/phonefile
# No sanitizer: there is no unsafe code to watch, and so the pinned stable compiler will do.
exec cargo fuzz run --sanitizer none phonefile fuzz/corpus/phonefile tests/samples -- \
  -max_total_time="$seconds" -max_len="$BODY_BYTES_MAX" -timeout=10 -rss_limit_mb=1024 \
  -print_final_stats=1
