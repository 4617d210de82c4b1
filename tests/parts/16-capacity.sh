# shellcheck shell=bash disable=SC2154
# The tables of docs/cluster-capacity.md are those of benches/capacity.py, and its costs stand in the records.
add_part capacity

packages_capacity() { have python3 || echo python3; }

part_capacity() {
    if ! have python3; then
        skip capacity "python3 is not installed"
        return
    fi
    check capacity python3 benches/capacity.py --check
}
