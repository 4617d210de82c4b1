# shellcheck shell=bash disable=SC2154
# The broker killed with SIGKILL again and again under load, and its acknowledgements traced: nothing acknowledged is
# lost. NIGHTJAR_KILLS sets how often (20; the record in benches/results has 100).
add_part kill

packages_kill() {
    have strace || echo strace
    have python3 || echo python3
    have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
}

part_kill() {
    if ! have python3; then
        skip kill "python3 is not installed"
        return
    fi
    broker_binary kill || return
    local py=python3
    install_python && py=$python
    run timeout 900 "$py" tests/outside/kill/run.py --bin "$target/debug/nightjar"
    count_script kill $?
    run timeout 300 "$py" tests/outside/kill/traced.py --bin "$target/debug/nightjar"
    count_script traced $?
}
