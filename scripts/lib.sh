# shellcheck shell=bash
# What the scripts share: messages, Debian packages, the test user, one build. Sourced, not run.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# The packages, by what needs them. A library that weir links enters here and in CMakeLists.txt.
PACKAGES_BUILD=(gcc libc6-dev cmake ninja-build pkg-config
    libuv1-dev libconfig-dev libjansson-dev libxxhash-dev libcap-ng-dev libseccomp-dev libcmocka-dev)
PACKAGES_RUN=("${PACKAGES_BUILD[@]}" util-linux curl)
PACKAGES_TEST=("${PACKAGES_RUN[@]}" python3 python3-pytest python3-pytest-timeout
    binutils ethtool iproute2 nftables openssl procps strace
    nginx libnginx-mod-stream haproxy wrk redis-server postgresql
    dnsmasq-base dnsperf iperf3 ngtcp2-client ngtcp2-server)
# shellcheck disable=SC2034 # scripts/bench reads it
PACKAGES_BENCH=("${PACKAGES_TEST[@]}" linux-perf)
# shellcheck disable=SC2034 # scripts/fuzz reads it
PACKAGES_FUZZ=(clang libclang-rt-14-dev llvm)
# shellcheck disable=SC2034 # scripts/check reads it
PACKAGES_CHECK=("${PACKAGES_TEST[@]}" "${PACKAGES_FUZZ[@]}" clang-format clang-tidy shellcheck git)

# Services that the packages above would start at boot. The tests start their own.
SERVICES=(nginx haproxy redis-server postgresql iperf3 ngtcp2d)

TEST_USER=weir

say() {
    printf '==> %s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "needs root (or sudo) for: $*"
    fi
}

package_installed() {
    # dpkg-query fails on a name it never heard of.
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Installs what lacks of the packages named. No service is started or left enabled by this: one that
# ran before goes on, one that is new stays off.
packages_need() {
    local package policy=/usr/sbin/policy-rc.d service
    local -a lacking=() fresh=()

    for package in "$@"; do
        package_installed "$package" || lacking+=("$package")
    done
    ((${#lacking[@]})) || return 0

    say "installing ${lacking[*]}"
    for service in "${SERVICES[@]}"; do
        systemctl is-enabled --quiet "$service" 2>/dev/null || fresh+=("$service")
    done
    as_root apt-get update -qq
    if [[ -e $policy ]]; then
        policy=
    else
        printf '#!/bin/sh\nexit 101\n' | as_root install -m 0755 /dev/stdin "$policy"
    fi
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq --yes --no-install-recommends "${lacking[@]}" >/dev/null ||
        die "apt-get could not install ${lacking[*]}"
    [[ -z $policy ]] || as_root rm -f "$policy"
    for service in "${fresh[@]}"; do
        as_root systemctl disable --quiet "$service" 2>/dev/null || true
    done
}

user_need() {
    getent passwd "$TEST_USER" >/dev/null && return
    say "adding the system user $TEST_USER"
    as_root useradd --system --user-group --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin "$TEST_USER"
}

# Where a preset builds; CMakePresets.json says the same.
build_dir() {
    if [[ $1 == release ]]; then
        echo build
    else
        echo "build/$1"
    fi
}

# build_preset PRESET [TARGET...]
build_preset() {
    local preset=$1 dir
    shift

    dir=$(build_dir "$preset")
    say "building $preset in $dir"
    if [[ ! -e $dir/build.ninja ]]; then
        cmake --preset "$preset" -DWEIR_WERROR=ON >/dev/null
    fi
    cmake --build --preset "$preset" ${1+--target "$@"} -- --quiet
}
