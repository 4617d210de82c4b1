# shellcheck shell=bash disable=SC2154
# The Helm chart and the plain manifests. Debian has no Helm: a small program renders the chart as Helm does. Only when it
# is named, because it needs a Go compiler.
# shellcheck disable=SC2154  # target, scratch: of tests/run
add_extra_part chart

packages_chart() {
    have python3 || echo python3
    have go || echo golang-go
    [ -d /usr/share/gocode/src/github.com/Masterminds/sprig ] || echo golang-github-masterminds-sprig-dev
    [ -d /usr/share/gocode/src/gopkg.in/yaml.v3 ] || echo golang-gopkg-yaml.v3-dev
}

part_chart() {
    local file
    for file in go python3 /usr/share/gocode/src/github.com/Masterminds/sprig /usr/share/gocode/src/gopkg.in/yaml.v3; do
        if ! have "$file" && ! [ -d "$file" ]; then
            skip chart "$file is not installed (Debian packages golang-go, golang-github-masterminds-sprig-dev, golang-gopkg-yaml.v3-dev)"
            return
        fi
    done
    broker_binary chart || return
    if ! run env GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE="$scratch/go" \
        go build -o "$scratch/render" tests/packages/chart/render.go; then
        fail chart "render.go does not build"
        return
    fi
    run timeout 300 python3 tests/packages/chart/run.py --bin "$target/debug/nightjar" --render "$scratch/render"
    count_script chart $?
}
