# shellcheck shell=bash
# What the scripts share. Sourced, never run. `set -euo pipefail` is the caller's.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cooper

# The stand-in bases carry well-known names (`debian:12`), so they stay out of the user's own store.
export COOPER_ROOT=${COOPER_ROOT:-$cache/store}

say() { if [[ -t 1 ]]; then printf '\n\e[1m==> %s\e[0m\n' "$*"; else printf '\n==> %s\n' "$*"; fi; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# on_exit COMMAND…: runs when the script ends, however it ends; the last one first.
exit_commands=()
on_exit() { exit_commands+=("$(printf '%q ' "$@")"); }
run_exit_commands() {
    local status=$? i
    for ((i = ${#exit_commands[@]} - 1; i >= 0; i--)); do eval "${exit_commands[i]}" || true; done
    exit "$status"
}
trap run_exit_commands EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# remove_tree DIR…: a rootless store holds files of the caller's sub-ids, which only a user namespace can remove.
remove_tree() {
    rm -rf -- "$@" 2>/dev/null || unshare --map-root-user --map-auto rm -rf -- "$@"
}

# scratch_dir NAME: sets the variable to a new directory that goes away at the end.
scratch_dir() {
    local -n into=$1
    # shellcheck disable=SC2034  # the caller's variable
    into=$(mktemp -d "${TMPDIR:-/tmp}/cooper-${0##*/}-XXXXXX")
    on_exit remove_tree "$into"
}

# need_packages PKG…: installs what is missing, or says what root must run.
need_packages() {
    local pkg missing=() sudo=()
    for pkg; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$pkg" 2>/dev/null) == installed ]] || missing+=("$pkg")
    done
    ((${#missing[@]})) || return 0
    local install=(apt-get install -y -q --no-install-recommends "${missing[@]}")
    if ((EUID)); then
        sudo=(sudo -n)
        "${sudo[@]}" true 2>/dev/null || die "these Debian packages are missing; as root, run:  ${install[*]}"
    fi
    say "installing ${missing[*]}"
    # Lists that are missing or old are the common reason for the first try to stop.
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null 2>&1 ||
        { "${sudo[@]}" apt-get update -q && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}"; } >&2
}

# need_lists: apt's package lists, which a fresh machine does not have.
need_lists() {
    [[ -z $(apt-get indextargets 'Created-By: Packages') ]] || return 0
    ((EUID == 0)) || die "apt has no package lists; as root, run:  apt-get update"
    apt-get update -q >&2
}

# need_services: what the tests of caches in services talk to, in the cache: moto for S3 and Azurite for Azure.
need_services() (
    into=$cache/services moto=5.2.5 azurite=3.35.0
    stamp="moto $moto, azurite $azurite"
    mkdir -p "$cache"
    exec {lock}>"$cache/services.lock"
    flock "$lock"
    [[ $(cat "$into/stamp" 2>/dev/null) != "$stamp" ]] || exit 0
    python3 -c 'import ensurepip' 2>/dev/null || need_packages python3-venv
    command -v npm >/dev/null || need_packages npm
    rm -rf "$into"
    mkdir "$into"
    python3 -m venv "$into/python"
    "$into/python/bin/pip" install --quiet --disable-pip-version-check "moto[s3]==$moto" flask flask-cors
    npm install --silent --no-audit --no-fund --prefix "$into" "azurite@$azurite"
    echo "$stamp" >"$into/stamp"
)

# need_programs: sets COOPER and CASK, built for release unless the environment names them.
need_programs() {
    if [[ -z ${COOPER:-} || -z ${CASK:-} ]]; then
        # shellcheck disable=SC1091  # rustup writes it
        command -v cargo >/dev/null || { [[ ! -f $HOME/.cargo/env ]] || . "$HOME/.cargo/env"; }
        command -v cargo >/dev/null || die "cargo is missing: install Rust as https://rustup.rs says, then run this again"
        need_packages gcc libc6-dev
        (cd "$repo" && cargo build --release --locked --bins) >&2
        local bin
        bin=${CARGO_TARGET_DIR:-$repo/target}/$(rustc -vV | sed -n 's/^host: //p')/release
        COOPER=${COOPER:-$bin/cooper} CASK=${CASK:-$bin/cask}
    fi
    export COOPER CASK
}

# build ARG…: `cooper build` whose steps use this machine's network and its proxies.
build() {
    local name proxies=()
    for name in {http,https,ftp,all,no}_proxy; do
        [[ -z ${!name:-} ]] || proxies+=(--build-arg "$name")
        name=${name^^}
        [[ -z ${!name:-} ]] || proxies+=(--build-arg "$name")
    done
    "$COOPER" build --network=host "${proxies[@]}" "$@"
}

# image_size NAME: in bytes, unpacked.
image_size() { "$COOPER" inspect "$1" | jq 'if type == "array" then .[0] else . end | .Size'; }

megabytes() { awk -v n="$1" 'BEGIN { printf n < 1e6 ? "%.2f MB" : "%.1f MB", n / 1e6 }'; }

# start_registry DIR: a registry on a free loopback port that keeps its blobs in DIR; sets `registry` to host:port.
start_registry() {
    need_packages docker-registry
    cat >"$1/config.yml" <<-CONFIG
	version: 0.1
	log: {level: info, accesslog: {disabled: true}}
	storage: {filesystem: {rootdirectory: $1/blobs}, delete: {enabled: true}}
	http: {addr: "127.0.0.1:0"}
	CONFIG
    : >"$1/log"
    docker-registry serve "$1/config.yml" >>"$1/log" 2>&1 &
    on_exit kill "$!"
    for _ in {1..100}; do
        registry=$(sed -n 's/.*listening on \(127[0-9.:]*\).*/\1/p' "$1/log")
        [[ -z $registry ]] || return 0
        sleep 0.1
    done
    die "the registry did not start: $(cat "$1/log")"
}
