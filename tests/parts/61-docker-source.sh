# shellcheck shell=bash disable=SC2154
# docker/Dockerfile, from source. Everything is compiled anew in a container: only when it is named.
add_extra_part docker-source

packages_docker-source() { packages_docker; }

part_docker-source() {
    if ! have python3; then
        skip docker/source "python3 is not installed"
        return
    fi
    run timeout 3600 python3 tests/docker/source.py --target "$target"
    count_script docker-source $?
}
