# shellcheck shell=bash
# shellcheck disable=SC2034 # the examples use what is set here
# What the examples have in common: a pair of their own, clients that use it, and a judge. To be
# sourced by them.
#
#   example_begin TITLE "$@"     reads the options, makes the pair
#   pair VERB…                   deploy/local-pair with that pair
#   load_start, load COMMAND…    clients (lib/load says which commands there are)
#   judge [OPTION…]              judges their log (seat_judge.py); its figures are in $verdict
#   await SECONDS WHAT COMMAND…  waits until the command succeeds; the time is in $waited_ms
#   say TEXT…                    one line of the story
#   prove TEXT…                  the last line: what was shown. Ends the example well
#
# Settings of an example, before example_begin: seats, lease_seconds, clients, keep, pair_options,
# load_options, packages, need_root (what for).

example_lib=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
example_root=$(realpath "$example_lib/../..")
# shellcheck source=deploy/lib/postgres.sh
. "$example_root/deploy/lib/postgres.sh"
# shellcheck source=deploy/lib/packages.sh
. "$example_root/deploy/lib/packages.sh"

seats=12
lease_seconds=6
clients=6
keep=4
pair_options=()
load_options=()
packages=(build run examples)
need_root=
title=

dir=
port=
keep_files=false
verdict=
told=
waited_ms=0
load_pid=
wire=

example_usage() {
    cat <<END
usage: ${0##*/} [--dir DIR] [--port N] [--keep-files]

$title

  --dir DIR      where its pair is made (default: a new folder, removed at the end)
  --port N       port of the primary; the secondary has the next one (default: free ones)
  --keep-files   leaves the folder, with logs, databases and the clients' log
END
}

say() {
    printf '%7.1f s  %s\n' "$(elapsed)" "$*"
}

elapsed() {
    local now=${EPOCHREALTIME/[^0-9]/} begun=${example_begun/[^0-9]/}
    printf '%d.%d' $(((now - begun) / 1000000)) $(((now - begun) / 100000 % 10))
}

example_fail() {
    trap - ERR
    printf '%s: FAILED: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# The first line that went wrong, for what has no sentence of its own.
example_error() {
    example_fail "line $2: $1"
}

# Two ports that nobody listens on, as far as can be known.
free_ports() {
    /usr/bin/python3 - <<'END'
import socket
while True:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        try:
            two.bind(("127.0.0.1", port + 1))
        except (OSError, OverflowError):
            continue
        print(port)
        break
END
}

example_begin() {
    title=$1
    shift
    set -eEuo pipefail
    example_begun=$EPOCHREALTIME
    while (($#)); do
        case $1 in
        --dir | --port)
            (($# >= 2)) || example_fail "$1 needs a value."
            if [[ $1 == --dir ]]; then dir=$2; else port=$2; fi
            shift
            ;;
        --keep-files) keep_files=true ;;
        -h | --help) example_usage && exit 0 ;;
        *) example_usage >&2 && exit 2 ;;
        esac
        shift
    done
    if [[ $need_root ]] && ((EUID != 0)); then
        example_fail "$need_root need root: run it as root, or with sudo."
    fi
    trap example_end EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'example_error "$BASH_COMMAND" "$LINENO"' ERR
    packages_install "${packages[@]}" || example_fail "the Debian packages above are needed."
    # Databases may run as another user than whoever made the folder.
    [[ $dir ]] || { dir=$(mktemp -d /var/tmp/twinlease-example.XXXXXX) && chmod 0711 "$dir"; }
    [[ ! -e $dir/pair ]] || example_fail "there is a pair in $dir already; choose another --dir"
    [[ $port ]] || port=$(free_ports)
    if [[ $(type -t wire_make) == function ]]; then
        wire_make
        pair_options+=(--hosts "$wire_hosts" --netns "$wire_netns")
    fi
    say "$title"
    [[ $(type -t containers_make) != function ]] || containers_make
    pair up --port "$port" --seats "$seats" --lease-seconds "$lease_seconds" --quiet \
        "${pair_options[@]}" || example_fail "the pair does not come up"
    # shellcheck source=/dev/null
    . "$dir/pair/pair.env"
    # The demonstration's own lease would be a seat that the judge knows nothing of.
    tool release --all >/dev/null
    say "A pair is up: $PRIMARY_URL and $SECONDARY_URL, $seats seats, leases of $lease_seconds s."
}

# Whatever happened: nothing of it goes on running.
example_end() {
    local code=$?
    trap - EXIT ERR
    set +eE
    load_close
    [[ $(type -t containers_remove) != function ]] || containers_remove "$code"
    pair down --quiet
    [[ $(type -t wire_remove) != function ]] || wire_remove
    if $keep_files || ((code != 0)); then
        ((code == 130)) || printf '%s: its files are in %s\n' "${0##*/}" "$dir" >&2
    else
        pair down --purge --quiet
        rm -f "$dir/clients.log" "$dir/ledgers.diff"
        rmdir "$dir" 2>/dev/null
    fi
    exit "$code"
}

pair() {
    "$example_root/deploy/local-pair" "$@" --dir "$dir/pair"
}

# Runs a command where all nodes can be reached.
in_wire() {
    if [[ $wire ]]; then nsenter --net="/run/netns/$wire" "$@"; else "$@"; fi
}

node_url() {
    if [[ $1 == primary ]]; then echo "$PRIMARY_URL"; else echo "$SECONDARY_URL"; fi
}

other() {
    if [[ $1 == primary ]]; then echo secondary; else echo primary; fi
}

# tool ARGUMENT…: `twinlease` as the operator, and as the demonstration's client.
tool() {
    local name=${tool_node:-primary} home=$dir/pair/client
    in_wire env HOME="$home" TWINLEASE_STATE="$home" TWINLEASE_TOK="$CLIENT_TOKEN_FILE" \
        TWINLEASE_URL="$(node_url "$name")" TWINLEASE_CA="$CA_CERT" \
        TWINLEASE_TOKEN_FILE="$ADMIN_TOKEN_FILE" NO_PROXY='*' "$dir/pair/bin/twinlease" "$@"
}

# ask NODE PATH [OPTION…]: an operator's request; prints the answer, whatever its status.
ask() {
    local url
    url=$(node_url "$1")$2
    shift 2
    in_wire curl --noproxy '*' -sS --max-time 10 --cacert "$CA_CERT" \
        -H "Authorization: Bearer $(cat "$ADMIN_TOKEN_FILE")" "$@" "$url"
}

# health NODE FILTER: what a node says of itself, through jq -e.
health() {
    ask "$1" /-/health 2>/dev/null | jq -er "$2" 2>/dev/null
}

# The pair is whole: each node says that it is connected to the other.
connected() {
    health primary '.peer.state == "connected"' >/dev/null &&
        health secondary '.peer.state == "connected"' >/dev/null
}

node_log_has() { # NODE WORDS
    grep -qF -- "$2" "$dir/pair/$1/node.log"
}

await() {
    local seconds=$1 what=$2 begun=${EPOCHREALTIME/[^0-9]/} now
    shift 2
    until "$@"; do
        now=${EPOCHREALTIME/[^0-9]/}
        ((now - begun < seconds * 1000000)) || example_fail "not within $seconds s: $what"
        sleep 0.05
    done
    now=${EPOCHREALTIME/[^0-9]/}
    waited_ms=$(((now - begun) / 1000))
}

# ---- ledgers ------------------------------------------------------------------------------------

ledger_of() {
    pg_psql "$dir/pair/$1/postgres" twinlease -At -f "$example_lib/ledger.sql"
}

# Both databases hold the same, row by row; what differs is in ledgers.diff.
ledgers_equal() {
    /usr/bin/python3 "$example_lib/ledgers.py" <(ledger_of primary) <(ledger_of secondary) \
        >"$dir/ledgers.diff"
}

ledger_rows() {
    ledger_of primary | wc -l
}

# schema/invariants.sql finds nothing in either database.
check_invariants() {
    local name found
    for name in primary secondary; do
        found=$(pg_psql "$dir/pair/$name/postgres" twinlease -At \
            -f "$example_root/schema/invariants.sql")
        [[ ! $found ]] || example_fail "the database of the $name breaks invariants: $found"
    done
}

await_equal() {
    await "$1" "both ledgers equal, row by row (see ledgers.diff)" ledgers_equal
}

# ---- clients ------------------------------------------------------------------------------------

load_start() {
    coproc LOAD {
        in_wire /usr/bin/python3 "$example_lib/load" --env "$dir/pair/pair.env" \
            --log "$dir/clients.log" --seats "$seats" --clients "$clients" --keep "$keep" \
            "${load_options[@]}"
    }
    # shellcheck disable=SC2153 # coproc sets it
    load_pid=$LOAD_PID
    load_told
    load start
    say "$clients clients acquire, renew and release on both nodes."
}

# One line of the answer, in $told.
load_told() {
    told=
    read -r -t 120 told <&"${LOAD[0]}" || example_fail "the clients do not answer"
    [[ $told == ok* ]] || example_fail "clients, asked to $*: ${told#failed: }"
    told=${told#ok }
}

load() {
    echo "$*" >&"${LOAD[1]}"
    load_told "$@"
}

load_close() {
    [[ $load_pid ]] || return 0
    eval "exec ${LOAD[1]:-9}>&-"
    timeout 60 tail -s 0.02 --pid="$load_pid" -f /dev/null || kill "$load_pid"
    load_pid=
}

judge() {
    verdict=$(/usr/bin/python3 "$example_lib/seat_judge.py" --log "$dir/clients.log" \
        --seats "$seats" "$@") || example_fail "the judge has found something"
}

# The end of most examples: what every client holds is known to both nodes; then all of it is given
# back, and each node in turn can have every seat.
settle() {
    local name
    load stop
    load confirm
    say "Both nodes know every lease that clients hold: $told."
    load release
    for name in primary secondary; do
        load fill "$name" "$((lease_seconds + 15))"
        say "Every seat can be acquired at the $name: $told."
    done
    await_equal 5
    check_invariants
}

prove() {
    printf '%s: proven: %s\n' "${0##*/}" "$*"
}
