#!/usr/bin/env bash
# How cost grows with calls: a looping prompt at 100 to 1,000 of them, the server on one core. A line of JSON for each.
# usage: benches/peer/curve.sh PATH/TO/ivrload-folder [calls…]
# Budget: CPU s per call-minute at 1,000 calls no more than 1.3 times that at 100; p99 pacing deviation under 3 ms and no
# packet missing, as long as the tool itself keeps time (its load_late_ticks).
set -euo pipefail
source "$(dirname "$0")/common.sh"
shift
[ $# -gt 0 ] || set -- 100 200 400 600 800 1000
for n in "$@"; do row "prompt-$n" ivr "$n"; done
