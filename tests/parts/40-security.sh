# shellcheck shell=bash disable=SC2154
# Who gets in and who does not: limits and bans, every backend of etc/auth against its real server, the table of attacks.
# shellcheck disable=SC2154  # target: of tests/run
add_part security

packages_security() {
    have python3 || echo python3
    have openssl || echo openssl
    have_server mariadbd || echo mariadb-server
    have_server redis-server || echo redis-server
    have_server initdb || echo postgresql
    have_server slapd || echo slapd
    have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
}

part_security() {
    if ! have python3; then
        skip security "python3 is not installed"
        return
    fi
    broker_binary security || return
    # pymongo looks at what stands in for MongoDB.
    local py=python3
    install_python && py=$python
    run timeout 1200 "$py" tests/security/run.py --bin "$target/debug/nightjar"
    count_script security $?
}
