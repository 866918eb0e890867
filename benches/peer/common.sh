# Sourced by the scripts beside it: the tool built, a fresh hotline on core 0, the load on core 1.
# usage of theirs: SCRIPT PATH/TO/ivrload-folder …
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tool=${1:?"give the folder of ivrload.c"}
bin=${ZONGJI:-target/release/zongji} work=$(mktemp -d) server= load=
# What runs in the background does not hear Ctrl-C. The server would let its calls finish: nobody holds them any more.
trap 'for p in $load $server; do kill -KILL "$p" 2>/dev/null || true; done; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
[ -x "$bin" ] || { echo "$bin is not there: run \`make build\` first" >&2; exit 1; }
[ -f "$tool/ivrload.c" ] || { echo "there is no ivrload.c in $tool" >&2; exit 1; }
cc -O2 -o "$work/ivrload" "$tool/ivrload.c"
ulimit -n 16384 2>/dev/null || ulimit -n "$(ulimit -Hn)"

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
  taskset -c 1 "$work/ivrload" -t 5060 -u "$user" -n "$n" -c 50 -s 4 -m "${MEASURE_S:-15}" -P "$server" -a "$tool/caller10.ulaw" -L "$label" "$@" || true
  stop
}
ticks() { awk '{ print $14 + $15 }' "/proc/$server/stat"; }
need_sipp() {
  command -v sipp >/dev/null && return
  echo "$1: NOT MEASURED: sipp is not installed (apt-get install sip-tester)" >&2
  exit 1
}
