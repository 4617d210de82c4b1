# shellcheck shell=bash disable=SC2154
# What `nightjar import` makes of an EMQ X with users and rules in MySQL, run against a real MariaDB.
# shellcheck disable=SC2154  # target: of tests/run
add_part import

packages_import() {
    have python3 || echo python3
    have_server mariadbd || echo mariadb-server
}

part_import() {
    if ! have python3; then
        skip import "python3 is not installed"
        return
    fi
    broker_binary import || return
    run timeout 300 python3 tests/import/run.py --bin "$target/debug/nightjar"
    count_script import $?
}
