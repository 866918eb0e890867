#!/usr/bin/env bash
# scripts/soak.sh [MINUTES]: what takes too long for `make test`. `make soak` calls it.
#
#   1. the tests marked `#[ignore = "soak: …"]`, in release
#   2. a release hotline on loopback, four callers without a pause for MINUTES (default 10); its memory and open files are
#      read every minute. It fails when a call fails, when memory ends a fifth plus 20 MB above the first minute's, or
#      when files stay open.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"

readonly MINUTES=${1:-10}
readonly SIP=${SOAK_SIP:-127.0.0.1:5970}
readonly HTTP=${SOAK_HTTP:-127.0.0.1:8970}
readonly CALLERS=${SOAK_CALLERS:-4}
readonly SLACK_KB=20480
zongji=$(scripts/target-dir.sh)/release/zongji
flags() { scripts/setup.sh flags; }

say() { printf '[soak] %s\n' "$*"; }
die() {
    printf '[soak] failed: %s\n' "$*" >&2
    exit 1
}

long_tests() {
    local names listed
    # shellcheck disable=SC2046 # zero or one word
    names=$(cargo test --release --locked $(flags) -- --ignored --list soak) || die "the tests cannot be built"
    listed=$(grep -c ': test$' <<<"$names") || true
    if [ "${listed:-0}" = 0 ]; then
        say "no test is marked as soak"
        return 0
    fi
    say "$listed long tests"
    # shellcheck disable=SC2046 # zero or one word
    cargo test --release --locked $(flags) -- --ignored soak
}

memory_kb() { awk '/^VmRSS:/ {print $2}' "/proc/$server/status"; }
open_files() { find "/proc/$server/fd" -maxdepth 1 -type l | wc -l; }

start_hotline() {
    work=$(mktemp -d)
    "$zongji" serve --sip "$SIP" --http "$HTTP" --data "$work/data" >"$work/serve.log" 2>&1 &
    server=$!
    trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
    local deadline=$((SECONDS + 60))
    until curl -fsS -m 2 "http://$HTTP/health" >/dev/null 2>&1; do
        kill -0 "$server" 2>/dev/null || die "the hotline did not start; see $work/serve.log"
        [ "$SECONDS" -lt "$deadline" ] || die "no answer from http://$HTTP/health within 60 s; see $work/serve.log"
        sleep 0.5
    done
}

# One batch of calls side by side: each picks key 1, listens for three seconds and hangs up.
batch() {
    local n
    local -a calls=()
    for n in $(seq "$CALLERS"); do
        timeout 120 "$zongji" call "sip:400@$SIP" --key 1 --hangup-after 3000 --json >"$work/call-$n.log" 2>&1 &
        calls+=($!)
    done
    for n in $(seq "$CALLERS"); do
        done_calls=$((done_calls + 1))
        wait "${calls[$((n - 1))]}" && continue
        failed=$((failed + 1))
        cp "$work/call-$n.log" "$work/failed-$done_calls.log"
    done
}

call_in_a_loop() {
    local end=$((SECONDS + MINUTES * 60)) next=$((SECONDS + 60)) base_kb=0 base_fd=0 kb fd
    done_calls=0 failed=0
    while [ "$SECONDS" -lt "$end" ]; do
        batch
        kill -0 "$server" 2>/dev/null || die "the hotline ended after $done_calls calls; see $work/serve.log"
        if [ "$SECONDS" -ge "$next" ]; then
            next=$((SECONDS + 60))
            kb=$(memory_kb)
            fd=$(open_files)
            if [ "$base_kb" = 0 ]; then base_kb=$kb base_fd=$fd; fi
            say "$done_calls calls, $failed failed, $kb KB, $fd open files"
        fi
    done
    kb=$(memory_kb)
    fd=$(open_files)
    if [ "$base_kb" = 0 ]; then base_kb=$kb base_fd=$fd; fi
    say "end: $done_calls calls, $failed failed; memory $base_kb -> $kb KB, open files $base_fd -> $fd"
    [ "$done_calls" -gt 0 ] || die "no call was placed in $MINUTES minutes"
    [ "$failed" = 0 ] || die "$failed of $done_calls calls; their output is in $work/failed-*.log"
    [ "$kb" -le $((base_kb + base_kb / 5 + SLACK_KB)) ] || die "memory grew from $base_kb to $kb KB"
    [ "$fd" -le $((base_fd + 8)) ] || die "open files grew from $base_fd to $fd"
    kill "$server"
    wait "$server" 2>/dev/null || true
    trap - EXIT
    rm -rf "$work"
}

long_tests
say "calling $SIP for $MINUTES minutes"
start_hotline
call_in_a_loop
say "passed"
