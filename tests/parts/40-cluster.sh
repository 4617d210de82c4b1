# shellcheck shell=bash disable=SC2154
# Three real nodes that are one broker.
# shellcheck disable=SC2154  # target: of tests/run
add_part cluster

packages_cluster() {
    have python3 || echo python3
    have etcd || echo etcd-server
}

part_cluster() {
    if ! have python3; then
        skip cluster "python3 is not installed"
        return
    fi
    broker_binary cluster || return
    run timeout 600 python3 tests/cluster/run.py --bin "$target/debug/nightjar"
    count_script cluster $?
    run timeout 400 python3 tests/cluster/discovery.py --bin "$target/debug/nightjar" ${CI:+--ci}
    count_script discovery $?
    run timeout 400 python3 tests/cluster/operate.py --bin "$target/debug/nightjar"
    count_script operate $?
    run timeout 300 python3 tests/cluster/shared.py --bin "$target/debug/nightjar"
    count_script shared $?
    run timeout 300 python3 tests/cluster/sensors.py --bin "$target/debug/nightjar"
    count_script sensors $?
    local how
    for how in "" --kill --alone "--alone --kill"; do
        # shellcheck disable=SC2086  # words
        run timeout 300 python3 tests/cluster/orderly.py --bin "$target/debug/nightjar" $how
        count_script "orderly $how" $?
    done
}
