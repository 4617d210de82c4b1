# MQTT-SN over UDP: an independent client against the gateway, each exact answer and each procedure of the standard.
# shellcheck shell=bash disable=SC2154
add_part sn

packages_sn() {
    have python3 || echo python3
}

part_sn() {
    if ! have python3; then
        skip sn "python3 is not installed"
        return
    fi
    broker_binary sn || return
    run timeout 600 python3 tests/outside/sn_cases/run.py --quiet --bin "$target/debug/nightjar"
    count_script sn $?
}
