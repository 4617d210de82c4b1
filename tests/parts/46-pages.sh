# shellcheck shell=bash disable=SC2154
# The tables of speed in README.md and docs/performance.md are those of the newest results file, which they name.

add_part pages

part_pages() {
    if ! run cargo build "${all[@]}" --bin nightjar-compare; then
        fail pages "nightjar-compare does not build"
        return
    fi
    check "tables of speed as recorded" "$target/debug/nightjar-compare" check docs/performance.md README.md
}
