#!/usr/bin/env bash
# Whether memory stays flat: short calls (answer, one second, hang-up) at a steady rate, and a line fitted through the
# server's memory against calls done, after a warm-up.
# usage: benches/peer/slope.sh PATH/TO/ivrload-folder [calls [rate [warm-up calls]]]
# Budget: under 1 KB per 1,000 calls over 100,000 calls, fitted after 20,000.
set -euo pipefail
source "$(dirname "$0")/common.sh"
calls=${2:-100000} rate=${3:-400} warm=${4:-20000}
need_sipp slope || exit 0
start slope
taskset -c 1 sipp -sf "$tool/uac_sig.xml" -s sig -m "$calls" -r "$rate" -l 4000 -nostdin 127.0.0.1:5060 >"$work/sipp" 2>&1 &
load=$!
began=$(date +%s%N)
while kill -0 "$load" 2>/dev/null; do
  sleep 1
  done_calls=$((($(date +%s%N) - began) * rate / 1000000000))
  [ "$done_calls" -ge "$warm" ] && [ "$done_calls" -le "$calls" ] &&
    echo "$done_calls $(awk '/^VmRSS/ { print $2 }' "/proc/$server/status")" >>"$work/rss"
done
wait "$load" && code=0 || code=$?
awk -v code="$code" -v n="$calls" -v r="$rate" '{ x = $1 / 1000; sx += x; sy += $2; sxx += x * x; sxy += x * $2; k++; if (k == 1) first = $2; last = $2 }
  END { printf "{\"label\":\"slope\",\"calls\":%d,\"calls_per_s\":%d,\"samples\":%d,\"rss_first_kb\":%d,\"rss_last_kb\":%d,\"kb_per_1000_calls\":%.3f,\"sipp_exit\":%d}\n",
    n, r, k, first, last, (k * sxy - sx * sy) / (k * sxx - sx * sx), code }' "$work/rss"
stop
