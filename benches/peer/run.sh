#!/usr/bin/env bash
# Compares the media plane with other engines: ivrload places calls with real RTP against our test routes.
# usage: benches/peer/run.sh PATH/TO/ivrload-folder [calls]      (server and load on a core each; a fresh server a row)
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=${1:?"give the folder of ivrload.c"} calls=${2:-200}
bin=${ZONGJI:-target/release/zongji} work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -O2 -o "$work/ivrload" "$tool/ivrload.c"
ulimit -n 8192
row() { # label user calls extra-flags...
  local label=$1 user=$2 n=$3; shift 3
  taskset -c 0 "$bin" serve --config benches/peer/zongji.toml --data "$work/data-$label" >"$work/log" 2>&1 &
  local server=$!
  for _ in $(seq 100); do grep -q ready "$work/log" && break; sleep 0.1; done
  taskset -c 1 "$work/ivrload" -t 5060 -u "$user" -n "$n" -c 50 -s 4 -m 15 -P "$server" -a "$tool/caller10.ulaw" -L "$label" "$@" || true
  kill -TERM "$server"; wait "$server" || true
}
row prompt ivr "$calls"
row prompt-vad ivr-vad "$calls"
row prompt-recognition ivr-asr 50
row record rec 100
row echo echo 100
row barge barge 20 -d 1234 -D 1500
row bridge bridge 100 -b 5090 -x
