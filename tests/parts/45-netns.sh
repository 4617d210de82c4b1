# shellcheck shell=bash disable=SC2154
# Nodes in network namespaces, faults by seed under load, histories checked: what a cluster promises. The seeds are fixed,
# so that what a run finds is the change's; NIGHTJAR_NETNS_SEED sets another one. NIGHTJAR_SOAK=MINUTES goes on for so long
# with new seeds, with three nodes and with five, and appends what happened to benches/results/cluster-soak.txt.
add_part netns

packages_netns() {
    have python3 || echo python3
    have nft || [ -x /usr/sbin/nft ] || echo nftables
    have ip || [ -x /usr/sbin/ip ] || echo iproute2
    have_server haproxy || echo haproxy
    have unshare || echo util-linux
}

# A broker that speaks one version more of the protocol between nodes. It is linked where the broker of all other tests
# is, whose place it takes for a moment: nothing below the crate of the cluster is built twice.
next_binary() {
    mkdir -p "$target/next-protocol"
    if ! run cargo build --workspace --features nightjar/full,nightjar/next-protocol --bin nightjar ||
        ! cp "$target/debug/nightjar" "$target/next-protocol/nightjar"; then
        fail "netns rolling upgrade" "the broker of the next protocol does not build"
        return 1
    fi
    if ! run cargo build --workspace --features nightjar/full --bin nightjar; then
        fail "netns rolling upgrade" "the broker does not build any more"
        return 1
    fi
}

part_netns() {
    if ! have python3; then
        skip netns "python3 is not installed"
        return
    fi
    broker_binary netns || return
    local seed=${NIGHTJAR_NETNS_SEED:-}
    run timeout 600 python3 tests/cluster/netns/run.py --bin "$target/debug/nightjar" --seed "${seed:-1795203993}"
    count_script netns $?
    run timeout 500 python3 tests/cluster/netns/run.py --bin "$target/debug/nightjar" --rounds 7 --seed "${seed:-1795204250}" \
        --only "does not read,takes no writes,a follower's disk does not sync,leader's disk is slow,all disks"
    count_script "netns disks" $?
    run timeout 400 python3 tests/cluster/netns/run.py --bin "$target/debug/nightjar" --grow --seed "${seed:-1795204104}"
    count_script "netns growing" $?
    run timeout 300 python3 tests/cluster/netns/run.py --bin "$target/debug/nightjar" --haproxy --rounds 3 --seed "${seed:-1795204147}" \
        --only "kill the leader,kill a follower,rolling restart"
    count_script "netns behind HAProxy" $?
    if next_binary; then
        run timeout 400 python3 tests/cluster/netns/run.py --bin "$target/debug/nightjar" --next "$target/next-protocol/nightjar" \
            --seed "${seed:-1795204201}"
        count_script "netns rolling upgrade" $?
    fi
    local nodes
    if [ -n "${NIGHTJAR_SOAK:-}" ]; then
        for nodes in 3 5; do
            run python3 tests/cluster/netns/run.py --bin "$target/debug/nightjar" --nodes "$nodes" --minutes "$NIGHTJAR_SOAK" \
                --space 2000 --record benches/results/cluster-soak.txt
            count_script "netns soak of $nodes nodes" $?
        done
    fi
}
