# Sourced by scripts that need a Debian package of another suite: fetched by an apt of their own, so that nothing
# is installed and no root is needed. The mirror is the one that this machine's own apt uses.
# shellcheck shell=bash

private_apt_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# apt with lists, cache and sources of its own, so that this machine's stay as they are.
private_apt() {
    local tool=$1 home=$2
    shift 2
    "$tool" -qq \
        -o Dir::State="$home/state" -o Dir::Cache="$home/cache" \
        -o Dir::Etc::SourceList="$home/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::status="$home/status" \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o APT::Sandbox::User="$(id -un)" "$@"
}

# The mirror of Debian's main archive. apt itself reads its configuration (one-line and deb822 style), so
# that any mirror, proxy or transport that works for this machine works here.
debian_mirror() {
    local codename
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v codename="$codename" '
            $3 == "main" && ($2 == codename || $2 == "stable" || $2 == "testing" || $2 == "sid" || $2 == "unstable") {
                print $1; exit
            }'
}

# prepare_sources HOME SUITE: a private apt that knows one suite of $mirror.
prepare_sources() {
    local home=$1 suite=$2 signed=
    mkdir -p "$home/state/lists/partial" "$home/cache/archives/partial"
    : >"$home/status"
    [ -e "$private_apt_keyring" ] && signed="[signed-by=$private_apt_keyring] "
    printf 'deb %s%s %s main\n' "$signed" "$mirror" "$suite" >"$home/sources.list"
    private_apt apt-get "$home" update >&2
}

# unpack HOME DIR PACKAGE...: the packages and everything that they depend on, unpacked below DIR; for a HOME that
# has been prepared.
unpack() {
    local home=$1 dir=$2 deb
    shift 2
    rm -rf "$home/cache/archives"
    mkdir -p "$home/cache/archives/partial"
    private_apt apt-get "$home" -o Debug::NoLocking=true --yes --no-install-recommends --download-only \
        install "$@" >&2
    for deb in "$home"/cache/archives/*.deb; do dpkg -x "$deb" "$dir"; done
}

# fetch_ntfy PEERS: the newest ntfy in Debian that runs here, as PEERS/ntfy/usr/bin/ntfy. Its package needs only
# libc and libsqlite3, but a newer suite may one day be built against a libc that is newer than this machine's.
# Not with `unpack`: the libraries that a newer suite would bring along are not wanted.
fetch_ntfy() {
    local peers=$1 suite home
    [ -x "$peers/ntfy/usr/bin/ntfy" ] && return
    mkdir -p "$peers"
    peers=$(cd "$peers" && pwd)
    home=$peers/apt/ntfy
    for suite in sid forky trixie; do
        printf 'looking for ntfy in Debian %s\n' "$suite" >&2
        prepare_sources "$home" "$suite" || continue
        rm -rf "$peers/ntfy" "$peers/ntfy.new" "$home/deb"
        mkdir -p "$home/deb"
        (cd "$home/deb" && private_apt apt-get "$home" download ntfy >&2) || continue
        dpkg -x "$home"/deb/ntfy_*.deb "$peers/ntfy.new"
        if "$peers/ntfy.new/usr/bin/ntfy" --help >/dev/null 2>&1; then
            mv "$peers/ntfy.new" "$peers/ntfy"
            rm -rf "$home"
            return
        fi
        printf 'ntfy from Debian %s does not run here\n' "$suite" >&2
        rm -rf "$peers/ntfy.new"
    done
    printf 'no suite of %s has an ntfy that runs on this machine (libsqlite3-0 must be installed)\n' "$mirror" >&2
    return 69
}
