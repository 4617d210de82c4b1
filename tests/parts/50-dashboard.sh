# shellcheck shell=bash disable=SC2154
# Each page of the dashboard in Chromium, against a broker with real clients; the types of its sources.
# shellcheck disable=SC2154  # target, scratch, ci: of tests/run
add_part dashboard

packages_dashboard() { [ -x "${CHROMIUM:-/usr/bin/chromium}" ] || echo chromium; }

part_dashboard() {
    local sources=$target/test-ui
    if ! install_node; then
        skip dashboard "Node 20.19 or newer with npm is not installed"
        return
    fi
    mkdir -p "$sources"
    cp api/ui/web/*.json api/ui/web/*.ts "$sources/"
    rm -rf "$sources/src"
    cp -r api/ui/web/src "$sources/src"
    if ! cmp -s api/ui/web/package-lock.json "$sources/.installed"; then
        if ! (cd "$sources" && npm ci --no-audit --no-fund --ignore-scripts) </dev/null >"$scratch/npm" 2>&1; then
            tail -n 5 "$scratch/npm"
            skip dashboard "its npm packages cannot be installed"
            return
        fi
        cp api/ui/web/package-lock.json "$sources/.installed"
    fi
    check "dashboard types" npm --prefix "$sources" run check
    if [ ! -x "${CHROMIUM:-/usr/bin/chromium}" ]; then
        skip dashboard "chromium is not installed (Debian package chromium)"
        return
    fi
    broker_binary dashboard || return
    rm -rf "$TEST_NODE_DIR/dashboard"
    cp -r tests/dashboard "$TEST_NODE_DIR/dashboard"
    run timeout 600 node "$TEST_NODE_DIR/dashboard/run.js" --bin "$target/debug/nightjar"
    count_script dashboard $?
}
