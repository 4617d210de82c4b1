# shellcheck shell=bash disable=SC2154
# docker/compose.cluster.yaml with HAProxy and with NGINX. Ten containers and two minutes: only when it is named.
add_extra_part docker-cluster

packages_docker-cluster() { packages_docker; }

part_docker-cluster() {
    if ! have python3; then
        skip docker/cluster "python3 is not installed"
        return
    fi
    if ! run cargo build --release "${all[@]}" --bins; then
        fail docker/cluster "the release build failed"
        return
    fi
    run timeout 900 python3 tests/docker/cluster.py --bin "$target/release/nightjar" --target "$target"
    count_script docker-cluster $?
}
