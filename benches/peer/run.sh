#!/usr/bin/env bash
# Compares the media plane with other engines: ivrload places calls with real RTP against our test routes, sipp those
# that are signalling alone.
# usage: benches/peer/run.sh PATH/TO/ivrload-folder [calls]      (server and load on a core each; a fresh server a row)
# Budget: 200 calls of looping prompt under 0.05 CPU s per call-minute, 64 KB per call, p99 pacing deviation under 2 ms; with
# recording (100 calls) under 0.07; a bridge under 0.06 a leg-minute at under 1 ms; signalling under 0.3 ms a call.
set -euo pipefail
source "$(dirname "$0")/common.sh"
calls=${2:-200}
signalling() { # calls rate
  need_sipp signalling
  start sig
  local before code=0
  before=$(ticks)
  taskset -c 1 sipp -sf "$tool/uac_sig.xml" -s sig -m "$1" -r "$2" -l 5000 -nostdin 127.0.0.1:5060 >"$work/sipp" 2>&1 || code=$?
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
signalling 40000 2000
