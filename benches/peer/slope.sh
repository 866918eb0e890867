#!/usr/bin/env bash
# Whether memory stays flat: short calls (answer, one second, hang-up) at a steady rate, and a line fitted through the
# server's memory against calls it has ended by its own count, after a warm-up.
# usage: benches/peer/slope.sh PATH/TO/ivrload-folder [calls [rate [warm-up calls]]]
# Budget: under 1 KB per 1,000 calls over 100,000 calls, fitted after 20,000.
set -euo pipefail
source "$(dirname "$0")/common.sh"
calls=${2:-100000} rate=${3:-400} warm=${4:-20000}
need_sipp slope
# What the server says of itself: calls that came, less those under way.
ended() {
  exec 3<>/dev/tcp/127.0.0.1/8080
  printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
  awk '$1 == "zongji_sip_calls_in_total" { came = $2 } $1 == "zongji_calls" { under_way = $2 } END { print came - under_way }' <&3
  exec 3>&-
}
start slope
taskset -c 1 sipp -sf "$tool/uac_sig.xml" -s sig -m "$calls" -r "$rate" -l 4000 -nostdin 127.0.0.1:5060 >"$work/sipp" 2>&1 &
load=$!
began=$(date +%s%N)
: >"$work/rss"
while kill -0 "$load" 2>/dev/null; do
  sleep 1
  n=$(ended)
  [ "$n" -lt "$warm" ] || echo "$n $(awk '/^VmRSS/ { print $2 }' "/proc/$server/status")" >>"$work/rss"
done
took=$((($(date +%s%N) - began) / 1000000))
wait "$load" && code=0 || code=$?
load=
awk -v code="$code" -v n="$(ended)" -v ms="$took" -v wanted="$rate" '{ x = $1 / 1000; sx += x; sy += $2; sxx += x * x; sxy += x * $2; k++; if (k == 1) first = $2; last = $2 }
  END { d = k * sxx - sx * sx; if (d <= 0) { print "slope: not measured, fewer than two samples after the warm-up" >"/dev/stderr"; exit 1 }
    printf "{\"label\":\"slope\",\"calls\":%d,\"calls_per_s\":%.0f,\"calls_per_s_wanted\":%d,\"samples\":%d,\"rss_first_kb\":%d,\"rss_last_kb\":%d,\"kb_per_1000_calls\":%.3f,\"sipp_exit\":%d}\n",
    n, n * 1000 / ms, wanted, k, first, last, (k * sxy - sx * sy) / d, code }' "$work/rss"
stop
