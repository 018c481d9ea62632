# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # lib/example.sh uses and sets variables
# Containers for an example: Docker, images with `twinlease` in them, and what the nodes say of who
# holds a seat. A Docker that runs already is used; else one of the example's own is started, in its
# folder, and stopped at the end. Containers are in the machine's own network, where the nodes are:
# no bridge is made and no packet filter touched. To be sourced after example.sh.
#
#   containers_make              before the pair; example_begin calls it. Exit code 77 if no
#                                container can run on this machine
#   containers_remove            after it; example_end calls it
#   image_files                  puts together what images are built from
#   image_build TARGET           builds the image $example_id-TARGET of containers/Dockerfile
#   container_run NAME OPTION… IMAGE [COMMAND…]
#                                starts one in the background; its host name is NAME
#   compose_up NAME              starts containers/docker-compose.yml; its host name is NAME
#   held_by NAME…                whether both nodes say that these hold the seats
#
# The base image is made of Debian's packages, without a registry, and kept in build/containers.

need_root=containers
packages+=(containers)
CANNOT_RUN=77
CONTAINER_USER=10001
example_id=twinlease-example-$$
docker_pid=

# Whether this machine can run containers is known once one has run.
containers_make() {
    local whose="that runs already"
    containers_folder=$dir/containers
    mkdir -p "$containers_folder"
    base_make
    docker_use || { docker_start && whose="of this example alone"; }
    docker import "$base" "$example_id-base" >>"$containers_folder/build.log" 2>&1 ||
        containers_cannot "the base image cannot be imported" "$containers_folder/build.log"
    docker run --rm --network host "$example_id-base" /bin/true \
        >>"$containers_folder/build.log" 2>&1 ||
        containers_cannot "none starts" "$containers_folder/build.log"
    say "Docker $(docker version --format '{{.Server.Version}}'), $whose."
}

# containers_cannot WHY LOG: nothing of what is to be shown has failed, so not its exit code.
containers_cannot() {
    trap - ERR
    printf '%s: no containers on this machine: %s\n' "${0##*/}" "$1" >&2
    [[ ! -s ${2:-} ]] || tail -n 15 "$2" >&2
    exit "$CANNOT_RUN"
}

# ---- Docker -------------------------------------------------------------------------------------

# The settings of whoever calls are not wanted: they may mean a Docker of another machine.
docker_use() {
    unset DOCKER_CONTEXT DOCKER_TLS_VERIFY
    export DOCKER_CONFIG=$containers_folder DOCKER_HOST=unix:///var/run/docker.sock
    [[ -S /var/run/docker.sock ]] && docker version >/dev/null 2>&1
}

# Which storage driver works here is Docker's own to find out.
docker_start() {
    export DOCKER_HOST=unix://$containers_folder/docker.sock
    cat >"$containers_folder/daemon.json" <<JSON
{
  "data-root": "$containers_folder/data",
  "exec-root": "$containers_folder/exec",
  "pidfile": "$containers_folder/docker.pid",
  "deprecated-key-path": "$containers_folder/key.json",
  "hosts": ["$DOCKER_HOST"],
  "bridge": "none",
  "iptables": false,
  "ip6tables": false,
  "shutdown-timeout": 5
}
JSON
    dockerd --config-file "$containers_folder/daemon.json" </dev/null \
        >"$containers_folder/dockerd.log" 2>&1 &
    docker_pid=$!
    local deadline=$((SECONDS + 60))
    until docker version >/dev/null 2>&1; do
        { kill -0 "$docker_pid" 2>/dev/null && ((SECONDS < deadline)); } ||
            containers_cannot "dockerd does not start" "$containers_folder/dockerd.log"
        sleep 0.1
    done
}

# dockerd stops what it started, but leaves the network namespace of its containers mounted.
docker_stop() {
    local mounted
    [[ $docker_pid ]] || return 0
    kill -TERM "$docker_pid" 2>/dev/null
    timeout 30 tail -s 0.02 --pid="$docker_pid" -f /dev/null || kill -KILL "$docker_pid"
    wait "$docker_pid" 2>/dev/null
    docker_pid=
    while read -r mounted; do
        umount "$mounted"
    done < <(findmnt -rno TARGET | grep -F "$containers_folder/")
    rm -rf --one-file-system "$containers_folder/data" "$containers_folder/exec"
}

containers_remove() { # CODE
    local name file remove=(docker rm --force --volumes)
    [[ ${containers_folder:-} ]] || return 0
    while read -r name; do
        file=$containers_folder/${name#"$example_id-"}.log
        docker logs "$name" >"$file" 2>&1
        remove+=("$name")
    done < <(docker ps --all --filter "name=$example_id-" --format '{{.Names}}' 2>/dev/null)
    "${remove[@]}" >/dev/null 2>&1
    docker volume ls --quiet --filter "name=$example_id-" 2>/dev/null |
        xargs -r docker volume rm >/dev/null 2>&1
    docker images --quiet --filter "reference=$example_id-*" | sort -u |
        xargs -r docker rmi -f >/dev/null 2>&1
    docker_stop
    $keep_files || (($1 != 0)) || rm -rf --one-file-system "$containers_folder"
}

# ---- images -------------------------------------------------------------------------------------

# What the Dockerfiles install on top of Debian's own image; here they come with the base.
base_packages() {
    sed -n 's/^ARG PACKAGES="\(.*\)"$/\1/p' "$example_root/ha-examples/containers/Dockerfile"
}

# No registry is needed: mmdebstrap unpacks packages of the release that the tool was built on. No
# maintainer script is run, which is enough to run programs, and takes seconds instead of a minute.
base_make() {
    local list log release folder=$example_root/build/${base_folder:-containers}
    list="base-files dash coreutils $(base_packages)"
    # shellcheck source=/dev/null
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    base=$folder/$release-$(cksum <<<"$list" | tr -c '0-9\n' -).tar
    mkdir -p "$folder"
    exec 8>"$folder/lock"
    flock 8
    if [[ ! -s $base ]]; then
        log=$(mktemp)
        # shellcheck disable=SC2016 # expanded by apt-get
        apt-get indextargets 'Created-By: Packages' 'Origin: Debian' \
            --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' |
            mmdebstrap --variant=extract --include="${list// /,}" --format=tar "$release" \
                "$base.new" - >"$log" 2>&1 ||
            containers_cannot "mmdebstrap cannot make the base image" "$log"
        find "$folder" -name '*.tar' -delete # of other releases, or lists
        mv "$base.new" "$base"
        rm -f "$log"
    fi
    exec 8>&-
}

image_files() {
    local folder=$containers_folder/files
    mkdir -p "$folder"
    cp "$example_root/ha-examples/containers/"* "$dir/pair/bin/twinlease" "$folder/"
    cp "$PUBLISHER_DIR"/*.pem "$folder/publisher.pem"
    # What an operator hands out, for the user that containers run as: a folder as Kubernetes mounts
    # secrets, in which links lead to the files that are valid now.
    install -d -o "$CONTAINER_USER" -m 0500 "$containers_folder/tokens"{,/..now}
    install -o "$CONTAINER_USER" -m 0400 "$CLIENT_TOKEN_FILE" "$containers_folder/tokens/..now/"
    ln -s ..now "$containers_folder/tokens/..data"
    ln -s "..data/${CLIENT_TOKEN_FILE##*/}" "$containers_folder/tokens/"
}

image_build() {
    docker build --build-arg BASE="$example_id-base" --build-arg PACKAGES= --network none \
        --target "$1" --tag "$example_id-$1" "$containers_folder/files" \
        >>"$containers_folder/build.log" 2>&1 ||
        example_fail "image $1 cannot be built; see $containers_folder/build.log"
}

# ---- containers ---------------------------------------------------------------------------------

# A Docker that runs already has containers of others.
container() {
    echo "$example_id-$1"
}

container_run() {
    local name=$1
    shift
    docker run --detach --name "$(container "$name")" --hostname "$name" --network host \
        --cap-drop ALL --volume "$containers_folder/tokens:/etc/twinlease/tokens:ro" "$@" \
        >>"$containers_folder/run.log" 2>&1 ||
        example_fail "container $name cannot be started; see $containers_folder/run.log"
}

container_log_has() {
    docker logs "$(container "$1")" 2>&1 | grep -qF -- "$2"
}

# container_is NAME running|exited|…
container_is() {
    [[ $(docker inspect --format '{{.State.Status}}' "$(container "$1")") == "$2" ]]
}

# Waits for its end; prints its exit code.
container_code() {
    timeout 30 docker wait "$(container "$1")"
}

# ---- compose -------------------------------------------------------------------------------------

# compose NAME ARGUMENT…: the plugin if there is one, else Debian's docker-compose.
compose() {
    local project=$example_id-$1 command=(docker-compose)
    shift
    ! docker compose version >/dev/null 2>&1 || command=(docker compose)
    (
        cd "$containers_folder/files" || exit
        export EXAMPLE=$example_id EXAMPLE_HOST=${project##*-}
        export TWINLEASE_TOKENS=$containers_folder/tokens
        "${command[@]}" -p "$project" -f docker-compose.yml -f host-network.yml "$@"
    )
}

compose_up() {
    compose "$1" up --detach >>"$containers_folder/run.log" 2>&1 ||
        example_fail "$1 cannot be started; see $containers_folder/run.log"
}

# The container of a service. Docker is asked, which is quicker than compose.
service_id() { # NAME SERVICE
    docker ps --all --quiet --filter "label=com.docker.compose.project=$example_id-$1" \
        --filter "label=com.docker.compose.service=$2"
}

# Prints what docker inspect says of it.
service() { # NAME SERVICE FORMAT
    docker inspect --format "$3" "$(service_id "$1" "$2")"
}

service_log_has() { # NAME SERVICE WORDS
    docker logs "$(service_id "$1" "$2")" 2>&1 | grep -qF -- "$3"
}

# ---- what the nodes say --------------------------------------------------------------------------

# Active leases, JSON, one a line.
leases() { # [NODE]
    ask "${1:-primary}" '/-/leases?state=active&origin=true' | jq -c '.lease_list[]'
}

# Who holds a seat, as operators see it: host names, sorted, in one line.
holders() { # [NODE]
    leases "$@" | jq -r .origin.environment.hostname | sort | paste -sd ' '
}

# What the primary tells of the lease of a container: lease_ref, created, expires.
lease_of() { # NAME MEMBER
    leases | jq -r --arg name "$1" --arg member "$2" \
        'select(.origin.environment.hostname == $name) | .[$member]'
}

# The same for an instant, by the nodes' clock, in ms since 1970.
lease_ms() { # NAME created|expires
    date -d "$(lease_of "$1" "$2")" +%s%3N
}

# Both nodes say so.
held_by() { # NAME…
    [[ $(holders primary) == "$*" && $(holders secondary) == "$*" ]]
}

must_hold() { # NAME…
    held_by "$@" || example_fail "$* should hold the seats; it is: $(holders)"
}

# Everyone who ever enrolled, but the demonstration's own client.
enrolled() {
    ask primary /-/origins | jq -r '.origin_list[].environment.hostname' |
        grep -vxF "$(hostname)" | sort | paste -sd ' '
}
