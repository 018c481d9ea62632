# shellcheck shell=bash
# shellcheck disable=SC2034 # lib/example.sh uses what is set here
# A wire between the nodes that can be cut: three network namespaces of this example alone, two with
# a node and its database each, and between them one that routes, in which the clients are. They
# reach both nodes whatever happens to what the nodes send each other. Needs root and iproute2, and
# touches no network of the machine. To be sourced after example.sh.
#
#   wire_make               before the pair; example_begin calls it
#   wire_remove             after it; example_end calls it
#   wire_cut FROM           what the node FROM sends to the other is dropped without a word
#   wire_mend               everything goes through again

need_root="network namespaces"
wire_primary=198.18.1.2
wire_secondary=198.18.2.2
wire_hosts=$wire_primary,$wire_secondary

wire_make() {
    command -v ip >/dev/null || example_fail "iproute2 is missing"
    local name=tl-example-$$
    ip netns add "$name-wire" ||
        example_fail "no network namespace can be made here (CAP_SYS_ADMIN is needed)"
    wire=$name-wire
    wire_netns=$name-primary,$name-secondary
    wire_end "$name-primary" primary "$wire_primary"
    wire_end "$name-secondary" secondary "$wire_secondary"
    ip -n "$wire" link set lo up
    in_wire sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

# One node's end: a namespace, and a cable to the one in the middle.
wire_end() { # namespace interface address
    ip netns add "$1"
    ip -n "$1" link set lo up
    ip -n "$wire" link add "$2" type veth peer name eth0 netns "$1"
    ip -n "$wire" address add "${3%.2}.1/24" dev "$2"
    ip -n "$wire" link set "$2" up
    ip -n "$1" address add "$3/24" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" route add default via "${3%.2}.1"
}

wire_remove() {
    local name
    [[ $wire ]] || return 0
    for name in ${wire_netns/,/ } "$wire"; do
        ip netns del "$name" 2>/dev/null
    done
}

wire_address() {
    if [[ $1 == primary ]]; then echo "$wire_primary"; else echo "$wire_secondary"; fi
}

wire_cut() {
    ip -n "$wire" rule add pref 100 iif "$1" to "$(wire_address "$(other "$1")")" blackhole
}

wire_mend() {
    while ip -n "$wire" rule del pref 100 2>/dev/null; do :; done
}
