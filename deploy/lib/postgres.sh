# shellcheck shell=bash
# Private PostgreSQL clusters, for local-pair and the tests. To be sourced by bash.
#
#   pg_init DIR              makes a cluster in DIR: data, socket folder, log, all inside
#   pg_start DIR             starts it and waits until it answers
#   pg_stop DIR [MODE]       stops it: fast (default), smart or immediate; fine if it is not running
#   pg_kill DIR              kill -9 of the server and all its processes, as a crash would do
#   pg_running DIR           succeeds if it runs
#   pg_destroy DIR           stops it and removes what pg_init made
#   pg_create_database DIR NAME   makes the database, fine if it exists
#   pg_psql DIR NAME ARG…    psql on that database, stops at the first error
#   pg_conninfo DIR NAME     prints a libpq connection string for it
#   pg_socket_dir DIR        prints the folder of its socket (PGHOST)
#
# All print nothing when all is well, and one line that says what to do when not. A cluster is
# reached through a Unix socket in a folder of mode 0700 and in no other way, so whoever can enter
# that folder is trusted as role postgres: the user it runs as, and root. PostgreSQL refuses to run
# as root; a cluster made by root runs as user postgres. Nothing here weakens durability: fsync,
# full_page_writes and synchronous_commit stay on (the node checks).
#
# Settings: PG_BINDIR (folder of initdb and pg_ctl; default: the newest under /usr/lib/postgresql),
# PG_START_SECONDS (how long a start may take: recovery after a crash counts; default 60).

PG_ROLE=postgres
PG_MAJOR_MIN=15
PG_SOCKET_MAX=107 # bytes of a Unix socket's path on Linux, without the NUL
PG_SOCKET_NAME=.s.PGSQL.5432

pg_fail() {
    echo "postgres.sh: $*" >&2
    return 1
}

# Prints the folder of the server's programs.
pg_bindir() {
    local dir major best=0

    if [ -n "${PG_BINDIR:-}" ]; then
        echo "$PG_BINDIR"
        return
    fi
    for dir in /usr/lib/postgresql/*/bin; do
        major=${dir#/usr/lib/postgresql/}
        major=${major%/bin}
        [ -x "$dir/initdb" ] && [ "$major" -gt "$best" ] 2>/dev/null && best=$major
    done
    if [ "$best" -ge "$PG_MAJOR_MIN" ]; then
        echo "/usr/lib/postgresql/$best/bin"
    elif command -v initdb >/dev/null && command -v pg_ctl >/dev/null; then
        dirname "$(command -v initdb)"
    else
        pg_fail "PostgreSQL $PG_MAJOR_MIN or newer is not installed (apt install postgresql)," \
            "or PG_BINDIR must name the folder of its initdb"
    fi
}

# Runs a command as the cluster's user, from a folder it can enter.
pg_as() {
    if [ "$(id -u)" -eq 0 ]; then
        (cd / && exec runuser -u "$PG_ROLE" -- "$@")
    else
        (cd / && exec "$@")
    fi
}

pg_absolute() {
    case $1 in
    /*) echo "$1" ;;
    *) echo "$PWD/$1" ;;
    esac
}

# The socket folder is DIR/run; if that path is too long for a socket, one in /tmp, whose name is
# kept in DIR/socket_dir.
pg_socket_dir() {
    local dir
    dir=$(pg_absolute "$1")
    if [ -f "$dir/socket_dir" ]; then
        cat "$dir/socket_dir"
    else
        echo "$dir/run"
    fi
}

pg_conninfo() {
    echo "host='$(pg_socket_dir "$1")' port=5432 user=$PG_ROLE dbname=$2"
}

pg_psql() {
    local conninfo
    conninfo=$(pg_conninfo "$1" "$2")
    shift 2
    psql -X -q -v ON_ERROR_STOP=1 "$conninfo" "$@"
}

# The socket folder may be gone after a reboot if it lies in /tmp: made again by every start.
pg_make_socket_dir() {
    local dir=$1 run
    local path="$dir/run/$PG_SOCKET_NAME"

    if [ "$(printf %s "$path" | wc -c)" -le "$PG_SOCKET_MAX" ]; then
        run=$dir/run
        pg_as mkdir -p -m 0700 "$run"
    elif [ -f "$dir/socket_dir" ] && pg_as test -O "$(cat "$dir/socket_dir")"; then
        run=$(cat "$dir/socket_dir")
    else
        run=$(pg_as mktemp -d /tmp/twinlease-pg.XXXXXX) || return
        echo "$run" | pg_as tee "$dir/socket_dir" >/dev/null
    fi && pg_as chmod 0700 "$run"
}

pg_settings() {
    cat <<END

# Written by deploy/lib/postgres.sh
listen_addresses = ''
unix_socket_directories = '$(printf %s "$1" | sed "s/'/''/g")'
unix_socket_permissions = 0700
port = 5432
max_connections = 60
fsync = on
full_page_writes = on
synchronous_commit = on
shared_buffers = 128MB
max_wal_size = 2GB
min_wal_size = 256MB
checkpoint_timeout = 10min
wal_compression = on
jit = off
logging_collector = off
log_line_prefix = '%m [%p] %a '
log_timezone = UTC
timezone = UTC
END
}

pg_init() {
    local dir bin
    dir=$(pg_absolute "$1")
    bin=$(pg_bindir) || return

    [ ! -e "$dir/data" ] || { pg_fail "$dir/data exists already"; return; }
    mkdir -p "$dir" || return
    if [ "$(id -u)" -eq 0 ] && ! chown "$PG_ROLE" "$dir" 2>/dev/null; then
        pg_fail "there is no user $PG_ROLE to run PostgreSQL as (apt install postgresql)"
        return
    fi
    chmod 0700 "$dir" || return
    if ! pg_as test -w "$dir"; then
        pg_fail "user $PG_ROLE cannot enter $dir: choose a folder whose parents all may enter"
        return
    fi
    pg_as "$bin/initdb" -D "$dir/data" --username="$PG_ROLE" --auth-local=trust --auth-host=reject \
        --encoding=UTF8 --locale=C.UTF-8 --data-checksums >"$dir/initdb.log" 2>&1 ||
        { pg_fail "initdb failed: $(tail -n 1 "$dir/initdb.log")"; return; }
    pg_make_socket_dir "$dir" || return
    pg_settings "$(pg_socket_dir "$dir")" | pg_as tee -a "$dir/data/postgresql.conf" >/dev/null
}

# Prints the server's process id, only if that process is alive and really works in this data
# folder (pg_ctl also takes a dead process that nobody has collected, or a stranger's with the same
# number).
pg_pid() {
    local data pid
    data=$(realpath "$(pg_absolute "$1")/data" 2>/dev/null) || return
    pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) || return
    [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$data" ] && echo "$pid"
}

pg_running() {
    pg_pid "$1" >/dev/null
}

# Descriptors that the caller holds (locks, pipes) are not handed down to the server.
pg_start() {
    local dir bin
    dir=$(pg_absolute "$1")
    bin=$(pg_bindir) || return

    [ -f "$dir/data/PG_VERSION" ] || { pg_fail "there is no cluster in $dir"; return; }
    ! pg_running "$dir" || return 0
    pg_make_socket_dir "$dir" || return
    pg_as "$bin/pg_ctl" -D "$dir/data" -l "$dir/postgres.log" -w -t "${PG_START_SECONDS:-60}" \
        -o "-c unix_socket_directories='$(pg_socket_dir "$dir")'" start \
        </dev/null >/dev/null 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- ||
        pg_fail "PostgreSQL in $dir did not start: $(tail -n 1 "$dir/postgres.log" 2>/dev/null)"
}

pg_stop() {
    local dir bin
    dir=$(pg_absolute "$1")
    bin=$(pg_bindir) || return

    pg_running "$dir" || return 0
    pg_as "$bin/pg_ctl" -D "$dir/data" -m "${2:-fast}" -w -t 60 stop >/dev/null 2>&1 ||
        pg_fail "PostgreSQL in $dir did not stop; its log is $dir/postgres.log"
}

# Succeeds once the process is gone, or dead and only waiting for init to collect it.
pg_await_end() {
    local tries=500

    while [ -r "/proc/$1/stat" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { pg_fail "process $1 of PostgreSQL did not die"; return; }
        sleep 0.02
    done
}

# The server is frozen first, so that it cannot tidy up while its children die; returns when all are
# gone.
pg_kill() {
    local pid children child
    pid=$(pg_pid "$1") || return 0

    kill -STOP "$pid" || return
    children=$(cat "/proc/$pid/task/$pid/children")
    # shellcheck disable=SC2086 # a list
    kill -KILL "$pid" $children 2>/dev/null
    for child in $pid $children; do
        pg_await_end "$child" || return
    done
    # A start would take a dead process that init has not collected yet for a running server.
    rm -f "$(pg_absolute "$1")/data/postmaster.pid" "$(pg_socket_dir "$1")/$PG_SOCKET_NAME.lock"
}

pg_destroy() {
    local dir run
    dir=$(pg_absolute "$1")

    [ -e "$dir" ] || return 0
    [ ! -e "$dir/data" ] || [ -f "$dir/initdb.log" ] ||
        { pg_fail "$dir was not made by pg_init: not removed"; return; }
    pg_stop "$dir" immediate || pg_kill "$dir" || return
    run=$(pg_socket_dir "$dir")
    rm -rf "$run" "$dir/data" "$dir/run" "$dir/socket_dir" "$dir/postgres.log" "$dir/initdb.log"
    rmdir "$dir" 2>/dev/null || true
}

pg_create_database() {
    local found
    found=$(pg_psql "$1" postgres -At -v name="$2" <<'END'
SELECT 1 FROM pg_database WHERE datname = :'name'
END
    ) || return
    [ -n "$found" ] || pg_psql "$1" postgres -v name="$2" <<'END'
CREATE DATABASE :"name"
END
}
