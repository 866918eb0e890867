#!/usr/bin/env bash
# Compares the media plane with other engines: ivrload places calls with real RTP against our test routes, sipp those
# that are signalling alone.
# usage: benches/peer/run.sh PATH/TO/ivrload-folder [calls]      (server and load on a core each; a fresh server a row)
# Budget: 200 calls of looping prompt under 0.10 CPU s per call-minute, 100 KB per call, p99 pacing deviation under 2 ms.
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=${1:?"give the folder of ivrload.c"} calls=${2:-200}
bin=${ZONGJI:-target/release/zongji} work=$(mktemp -d) server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
[ -x "$bin" ] || { echo "$bin is not there: run \`make build\` first" >&2; exit 1; }
[ -f "$tool/ivrload.c" ] || { echo "there is no ivrload.c in $tool" >&2; exit 1; }
cc -O2 -o "$work/ivrload" "$tool/ivrload.c"
ulimit -n 8192

start() { # label
  taskset -c 0 "$bin" serve --config benches/peer/zongji.toml --data "$work/data-$1" >"$work/log" 2>&1 &
  server=$!
  for _ in $(seq 100); do grep -q ready "$work/log" && return; sleep 0.1; done
  echo "the hotline was not ready for '$1' within 10 s:" >&2
  tail -5 "$work/log" >&2
  exit 1
}
stop() {
  kill -TERM "$server"
  wait "$server" || true
  server=
}
row() { # label user calls extra-flags...
  local label=$1 user=$2 n=$3; shift 3
  start "$label"
  taskset -c 1 "$work/ivrload" -t 5060 -u "$user" -n "$n" -c 50 -s 4 -m 15 -P "$server" -a "$tool/caller10.ulaw" -L "$label" "$@" || true
  stop
}
ticks() { awk '{ print $14 + $15 }' "/proc/$server/stat"; }
signalling() { # calls rate
  if ! command -v sipp >/dev/null; then
    echo "signalling: not measured, sipp is not installed (apt-get install sip-tester)" >&2
    return
  fi
  start sig
  local before code=0
  before=$(ticks)
  taskset -c 1 sipp -sf "$tool/uac_sig.xml" -s sig -m "$1" -r "$2" -l 2000 -nostdin 127.0.0.1:5060 >"$work/sipp" 2>&1 || code=$?
  awk -v t="$(($(ticks) - before))" -v hz="$(getconf CLK_TCK)" -v n="$1" -v r="$2" -v code="$code" \
    'BEGIN { printf "{\"label\":\"signalling\",\"calls\":%d,\"calls_per_s\":%d,\"cpu_ms_per_call\":%.2f,\"sipp_exit\":%d}\n", n, r, 1000 * t / hz / n, code }'
  stop
}
row prompt ivr "$calls"
row prompt-vad ivr-vad "$calls"
row prompt-recognition ivr-asr 50
row record rec 100
row echo echo 100
row barge barge 20 -d 1234 -D 1500
row bridge bridge 100 -b 5090 -x
signalling 4000 190
