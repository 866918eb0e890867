#!/usr/bin/env bash
# Checks what building, running or testing needs and installs only what is missing.
#
#   scripts/setup.sh build   compilers                          (make build)
#   scripts/setup.sh run     build + what a running hotline uses (make demo, make run)
#   scripts/setup.sh test    run + what the tests use            (make test)
#   scripts/setup.sh flags   prints the cargo flags this machine needs (nothing, or --no-default-features and what is left)
#   scripts/setup.sh plan    prints the missing Debian packages, installs nothing
#
# It asks nothing and takes under a second when nothing is missing. Exit status: 0 ready, 1 not, 2 wrong use.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"

readonly MIN_RUST_MINOR=95      # the `rust-version` of Cargo.toml
readonly COLD_BUILD_KB=6291456  # 6 GB: release and test builds from nothing
readonly WARM_BUILD_KB=1048576  # 1 GB: when the dependencies are built already

say() { printf '[setup] %s\n' "$*"; }
warn() { printf '[setup] note: %s\n' "$*" >&2; }
die() {
    printf '[setup] cannot go on: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '        %s\n' "$line" >&2; done
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# --- what is there -----------------------------------------------------------------------------------------

# A linker alone is not enough: the C headers come in another package.
have_cc() { have cc && printf '#include <stdlib.h>\nint x;\n' | cc -fsyntax-only -x c - 2>/dev/null; }
have_cxx() { have c++ && printf '#include <vector>\nint x;\n' | c++ -fsyntax-only -x c++ - 2>/dev/null; }

# bindgen loads the library at build time and needs the headers that lie beside it.
have_libclang() {
    if [ -n "${LIBCLANG_PATH:-}" ]; then return 0; fi
    local dir
    for dir in /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/local/lib; do
        if compgen -G "$dir/libclang.so*" >/dev/null || compgen -G "$dir/libclang-[0-9]*.so*" >/dev/null; then
            return 0
        fi
    done
    return 1
}

# The library alone is not enough: it needs the compiler's own headers, which come with clang.
have_clang_headers() {
    have clang || compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null ||
        compgen -G '/usr/lib/clang/*/include/stddef.h' >/dev/null || [ -n "${LIBCLANG_PATH:-}" ]
}

whisper_can_be_built() { have_cxx && have cmake && have_libclang && have_clang_headers; }
opus_can_be_built() { have_cc && have cmake; }

# The cargo flags that leave out what cannot be built here.
flags() {
    if whisper_can_be_built && opus_can_be_built; then return 0; fi
    # Every default feature but those two: a new one need not be named here.
    local features
    features=$(sed -n 's/^default = \[\(.*\)\].*/\1/p' Cargo.toml | tr -d '" ')
    if ! whisper_can_be_built; then features=$(without whisper "$features"); fi
    if ! opus_can_be_built; then features=$(without opus "$features"); fi
    if [ -n "$features" ]; then echo "--no-default-features --features $features"; else echo --no-default-features; fi
}

# A list of names with commas between, without one of them.
without() { printf '%s' "$2" | tr ',' '\n' | grep -vx "$1" | paste -sd, - || true; }

# The Debian packages that this mode lacks, one a line.
missing_packages() {
    local mode=$1
    if ! have_cc || ! have_cxx; then echo g++; fi
    if ! have make; then echo make; fi # cmake's default generator
    if ! have cmake; then echo cmake; fi
    if ! have clang; then echo clang; fi
    if ! have_libclang; then echo libclang-dev; fi
    case $mode in run | test) if ! have espeak-ng; then echo espeak-ng; fi ;; esac
    case $mode in test) if ! have sipp; then echo sip-tester; fi ;; esac
}

# --- installing --------------------------------------------------------------------------------------------

# Prints how to become root without being asked anything: empty for root itself; fails when there is no way.
root_prefix() {
    if [ "$(id -u)" = 0 ]; then return 0; fi
    if have sudo && sudo -n true 2>/dev/null; then
        echo "sudo -n"
        return 0
    fi
    return 1
}

apt() {
    local as_root=$1
    shift
    # shellcheck disable=SC2086 # the prefix is zero or two words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o APT::Color=0 -q "$@"
}

# True when apt knows a version of every package it is given.
apt_knows() {
    local package
    for package in "$@"; do
        if ! LC_ALL=C apt-cache policy "$package" 2>/dev/null | grep -q 'Candidate: [^(]'; then return 1; fi
    done
}

# Installs packages; says why when it cannot, and leaves it to the caller whether that matters.
install() {
    local as_root by_hand="sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
    if ! have apt-get; then
        warn "this is no Debian or Ubuntu. Please install what these Debian packages hold: $*"
        return 1
    fi
    if ! as_root=$(root_prefix); then
        warn "these packages are missing, and there is no root without a password here: $*"
        warn "run this once (as root without the sudo), then the same make command again:"
        warn "  $by_hand"
        return 1
    fi
    say "installing with apt: $*"
    if ! apt_knows "$@"; then
        say "fetching apt's package lists"
        apt "$as_root" update || warn "apt-get update failed; is there a network?"
    fi
    if apt "$as_root" install -y --no-install-recommends "$@"; then return 0; fi
    say "refreshing apt's package lists and trying again"
    if apt "$as_root" update && apt "$as_root" install -y --no-install-recommends "$@"; then return 0; fi
    # One package that this system does not know must not keep the others out.
    local package
    local -a refused=()
    for package in "$@"; do
        apt "$as_root" install -y --no-install-recommends "$package" >/dev/null 2>&1 || refused+=("$package")
    done
    if [ "${#refused[@]}" = 0 ]; then return 0; fi
    by_hand="sudo apt-get update && sudo apt-get install -y --no-install-recommends ${refused[*]}"
    warn "apt could not install ${refused[*]} (its message is above). When the network is back, or the package source is added:"
    warn "  $by_hand"
    return 1
}

# --- checks ------------------------------------------------------------------------------------------------

check_rust() {
    local mode=$1 version minor
    local -a fix=("install it, then run the same command again in a new shell:"
        "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y")
    if ! have cargo || ! have rustc; then die "Rust is not installed (no cargo and rustc in PATH)." "${fix[@]}"; fi
    if ! version=$(rustc --version 2>&1); then
        die "rustc does not run: $version" "with rustup: rustup default stable"
    fi
    minor=$(printf '%s' "$version" | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
    if [ -z "$minor" ] || [ "$minor" -lt "$MIN_RUST_MINOR" ]; then
        if have rustup; then fix=("run: rustup update stable && rustup default stable"); fi
        die "Rust 1.$MIN_RUST_MINOR or newer is needed, this is: $version ($(command -v rustc))" "${fix[@]}"
    fi
    if [ "$mode" != test ]; then return 0; fi
    if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then return 0; fi
    if have rustup; then
        say "adding rustfmt and clippy to the Rust toolchain"
        rustup component add rustfmt clippy && return 0
    fi
    die "cargo fmt or cargo clippy is missing." "with rustup: rustup component add rustfmt clippy"
}

# The folder cargo builds into. Need not exist yet.
target_dir() { scripts/target-dir.sh; }

check_disk() {
    local dir need free
    dir=$(target_dir)
    need=$COLD_BUILD_KB
    if [ -d "$dir/debug/deps" ] || [ -d "$dir/release/deps" ]; then need=$WARM_BUILD_KB; fi
    while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
    free=$(df -Pk "$dir" | awk 'NR == 2 {print $4}')
    if [ "$free" -lt "$need" ]; then
        die "$((free / 1024)) MB are free on the disk that holds $dir; building takes $((need / 1024)) MB." \
            "free some space, or build elsewhere: export CARGO_TARGET_DIR=/path/on/a/bigger/disk"
    fi
}

prepare() {
    local mode=$1 outcome=ready
    local -a packages
    check_rust "$mode"
    mapfile -t packages < <(missing_packages "$mode")
    if [ "${#packages[@]}" -gt 0 ]; then
        install "${packages[@]}" || outcome="going on with what is here"
    fi
    # After trying: what is still lacking is fatal, or costs one feature that is named.
    if ! have_cc; then
        die "there is no C compiler with headers; Rust needs it to link." \
            "Debian, Ubuntu: apt-get install g++ · Fedora: dnf install gcc-c++ · Arch: pacman -S gcc"
    fi
    if ! whisper_can_be_built; then
        warn "cmake, libclang or a C++ compiler is missing: building without whisper."
        warn "The bundled recogniser is not affected; only ggml model files cannot be used."
    fi
    if ! opus_can_be_built; then
        warn "cmake is missing: building without Opus. Phones then speak PCMA, PCMU, G722 or G729."
    fi
    case $mode in run | test)
        if ! have espeak-ng; then warn "espeak-ng is missing: English prompts will not be spoken."; fi
        ;;
    esac
    case $mode in test)
        if ! have sipp; then warn "sipp is missing: the tests that need it skip, and say so."; fi
        ;;
    esac
    check_disk
    if [ "${#packages[@]}" -gt 0 ]; then say "$outcome"; fi
}

case ${1:-} in
build | run | test) prepare "$1" ;;
flags) flags ;;
plan) missing_packages test ;;
*)
    echo "usage: scripts/setup.sh build|run|test|flags|plan" >&2
    exit 2
    ;;
esac
