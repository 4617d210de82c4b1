# shellcheck shell=bash disable=SC2154
# The Debian package and the RPM. The Debian package is installed in a container and started there without systemd.
# Needs cargo-deb, and cargo-generate-rpm for the RPM: tools that a test run does not compile.
add_extra_part packages

packages_packages() {
    packages_docker
    have rpm || echo rpm
    have systemd-analyze || echo systemd
}

part_packages() {
    if have systemd-analyze; then
        check "systemd unit" tests/packages/unit.sh etc/nightjar.service
    else
        skip "systemd unit" "systemd-analyze is not installed (Debian package systemd)"
    fi
    if ! have cargo-deb; then
        skip packages "cargo-deb is not installed (cargo install --locked cargo-deb)"
        return
    fi
    check "release build" cargo build --release "${all[@]}" --bins
    check "cargo deb" cargo deb --no-build --output "$scratch/nightjar.deb"
    run timeout 600 python3 tests/packages/run.py --deb "$scratch/nightjar.deb" --target "$target"
    count_script packages $?
    if have cargo-generate-rpm; then
        check "cargo generate-rpm" cargo generate-rpm --output "$scratch/nightjar.rpm"
        check "files of the RPM" tests/packages/rpm.sh "$scratch/nightjar.rpm"
    else
        skip rpm "cargo-generate-rpm is not installed (cargo install --locked cargo-generate-rpm)"
    fi
}
