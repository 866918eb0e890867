#!/usr/bin/env bash
# Prints the folder cargo builds into: CARGO_TARGET_DIR, cargo's own configuration, or ./target.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"
dir=$(cargo metadata --format-version 1 --no-deps --offline 2>/dev/null |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p') || true
printf '%s\n' "${dir:-${CARGO_TARGET_DIR:-$PWD/target}}"
