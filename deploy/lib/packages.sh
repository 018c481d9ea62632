# shellcheck shell=bash
# shellcheck disable=SC2034 # the lists are used by name
# The one list of Debian 12 packages, by purpose, and the way to get them. To be sourced.
#
#   packages_install build run        installs what is missing of these groups, and asks nothing
#
# A machine that has everything is left alone: no network, no rights needed.

# To compile everything, unit tests included.
packages_build=(
    gcc libc6-dev cmake ninja-build pkg-config
    libh2o-evloop-dev libssl-dev libcurl4-openssl-dev libjson-c-dev libpq-dev zlib1g-dev
    libcmark-gfm-dev libcmark-gfm-extensions-dev libsystemd-dev libcmocka-dev
)

# To run a node with its database, and to try it by hand.
packages_run=(postgresql-15 openssl curl jq ca-certificates)

# For ha-examples: clients and judge, and network namespaces for the wire that is cut.
packages_examples=(python3 iproute2 postgresql-client-15)

# For ha-examples with containers: Docker, compose files, and an image of Debian's own packages.
packages_containers=(docker.io docker-compose mmdebstrap)

# To run the tests: sanitizers and fuzzers, judges of our tokens and documents, load.
packages_test=(
    clang libclang-rt-14-dev clang-format git faketime
    python3 python3-pytest python3-pytest-xdist python3-requests python3-psycopg2
    python3-jwt python3-jwcrypto python3-cryptography python3-jsonschema openapi-specification
    python3-yaml g++ jose wrk shellcheck iproute2 zsh bash-completion
    man-db groff-base mandoc systemd valgrind
)

# For tests/lib/openapi-lint, unless there is an npm already: other sources' nodejs brings its own.
packages_lint=(nodejs npm)

# For tests/model: the exhaustive search compiles what spin writes.
packages_model=(spin gcc libc6-dev)

# Prints those of the named packages that are not installed.
packages_missing() {
    local name status
    for name in "$@"; do
        status=$(dpkg-query -W -f='${db:Status-Abbrev}' "$name" 2>/dev/null) || status=
        [[ $status == ii* || $status == hi* ]] || printf '%s\n' "$name"
    done
}

packages_may_install() {
    ((EUID == 0)) || { command -v sudo && sudo -n true; } >/dev/null 2>&1
}

# Runs a command as root, without ever asking for a password.
packages_as_root() {
    if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

packages_apt() {
    packages_as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@" </dev/null
}

# Debian's postgresql-15 makes a cluster `main` and starts it. We only need the programs: a drop-in
# forbids the cluster while the package is being installed, and goes again.
packages_apt_install() {
    local dropin=/etc/postgresql-common/createcluster.d/twinlease.conf result=0
    packages_as_root mkdir -p "${dropin%/*}" || return
    echo 'create_main_cluster = false' | packages_as_root tee "$dropin" >/dev/null || return
    packages_apt install --no-install-recommends "$@" || result=$?
    packages_as_root rm -f "$dropin"
    return "$result"
}

# packages_install GROUP...: build, run, examples, containers, test, lint, model.
packages_install() {
    local group log
    packages_wanted=()
    for group in "$@"; do
        local -n list="packages_$group"
        mapfile -t -O "${#packages_wanted[@]}" packages_wanted < <(packages_missing "${list[@]}")
    done
    ((${#packages_wanted[@]} == 0)) && return 0

    packages_may_install || {
        echo "Debian packages are missing, and there is no right to install them. As root, run:" \
            "apt-get install --no-install-recommends ${packages_wanted[*]}" >&2
        return 1
    }
    echo "Installing Debian packages: ${packages_wanted[*]}" >&2
    log=$(mktemp) || return
    # A package list that is there and still right saves the update.
    {
        packages_apt_install "${packages_wanted[@]}" ||
            { packages_apt update && packages_apt_install "${packages_wanted[@]}"; }
    } >"$log" 2>&1 && {
        rm -f "$log"
        return 0
    }
    tail -n 25 "$log" >&2
    echo "The packages could not be installed; all of the log is in $log." >&2
    return 1
}
