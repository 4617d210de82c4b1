# shellcheck shell=bash disable=SC2154
# The images of docker/ and the cluster of docker/compose.cluster.yaml. Installs Debian's engine where no docker is, and
# starts a daemon of its own where none answers.
add_part docker

packages_docker() {
    have python3 || echo python3
    # A daemon that answers, here or elsewhere, or one that can be started.
    have_server dockerd || { have docker && docker info; } >/dev/null 2>&1 || echo docker.io
    have docker-compose || echo docker-compose
    have_server debootstrap || echo debootstrap
    have mosquitto_pub || echo mosquitto-clients
}

part_docker() {
    if ! have python3; then
        skip docker "python3 is not installed"
        return
    fi
    if ! run cargo build --release "${all[@]}" --bins; then
        fail docker "the release build failed"
        return
    fi
    run timeout 900 python3 tests/docker/run.py --bin "$target/release/nightjar" --target "$target"
    count_script docker $?
}
