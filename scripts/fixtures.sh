#!/usr/bin/env bash
# Makes the callers' recordings of audio-fixtures/ with our own voice and espeak-ng: no human speech is in them.
# Each NAME.toml says what is said, by which voice, how fast and how high; this writes NAME.wav beside it.
set -euo pipefail
cd "$(dirname "$0")/.."
zongji=${ZONGJI:-target/release/zongji}
field() { sed -n "s/^$2 *= *\"\{0,1\}\([^\"]*\)\"\{0,1\} *$/\1/p" "$1"; }
for toml in audio-fixtures/*.toml; do
  wav=${toml%.toml}.wav
  text=$(field "$toml" text) voice=$(field "$toml" voice) rate=$(field "$toml" rate) pitch=$(field "$toml" pitch)
  case $voice in
    zongji-zh1) "$zongji" speak "$text" --rate "$rate" --pitch "$pitch" --out "$wav" ;;
    espeak-ng*)
      # espeak-ng's Mandarin voice reads pinyin; the spelling is in the toml.
      espeak-ng -v "$(field "$toml" espeak_voice)" -s "$(field "$toml" espeak_speed)" -w /tmp/fixture.wav "$(field "$toml" pinyin)"
      sox /tmp/fixture.wav -r 8000 -c 1 -b 16 "$wav" gain -n -6 ;;
    *) echo "$toml: unknown voice '$voice'" >&2; exit 1 ;;
  esac
done
