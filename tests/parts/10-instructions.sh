# shellcheck shell=bash disable=SC2154
# Instructions of decode, match, outbox and encode under callgrind, against benches/instructions/limits.txt.

add_part instructions

packages_instructions() { have valgrind || echo valgrind; }

part_instructions() {
    if ! have valgrind; then
        skip instructions "valgrind is not installed (Debian package valgrind)"
        return
    fi
    # Also where a program is there already: it may be that of an older tree.
    if ! run cargo build --release "${all[@]}" --bins; then
        fail instructions "the release build failed"
        return
    fi
    run timeout 600 "$target/release/nightjar-instructions" check benches/instructions/limits.txt
    count_script instructions $?
}
