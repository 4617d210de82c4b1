# shellcheck shell=bash disable=SC2154
# HTTP API, metrics and ctl of a running broker; its OpenAPI description fuzzed by schemathesis; the alert rules.
# shellcheck disable=SC2154  # target, scratch, root: of tests/run
add_part api

packages_api() {
    have python3 || echo python3
    have promtool || echo prometheus
}

part_api() {
    if ! have python3; then
        skip api "python3 is not installed"
        return
    fi
    if have promtool; then
        check "alert rules" promtool test rules etc/prometheus/nightjar.rules.test.yml
    else
        skip "alert rules" "promtool is not installed (Debian package prometheus)"
    fi
    broker_binary api || return
    run timeout 300 python3 tests/api/run.py --bin "$target/debug/nightjar"
    count_script api $?
    fuzz_api
}

# schemathesis in a folder of its own, because its dependencies are many.
fuzz_api() {
    local venv=$target/test-schemathesis
    if ! cmp -s tests/api/requirements.txt "$venv/.requirements"; then
        say "schemathesis into target/test-schemathesis"
        rm -rf "$venv"
        if ! { python3 -m venv "$venv" && "$venv/bin/python" -m pip install -q --disable-pip-version-check \
            -r tests/api/requirements.txt; } >"$scratch/schemathesis" 2>&1; then
            tail -n 5 "$scratch/schemathesis"
            skip schemathesis "it cannot be installed from PyPI"
            return
        fi
        cp tests/api/requirements.txt "$venv/.requirements"
    fi
    check "openapi fuzzed" timeout 400 python3 tests/api/fuzz.py --bin "$target/debug/nightjar" --schemathesis "$venv/bin/schemathesis"
}
