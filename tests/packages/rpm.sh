#!/bin/sh
# An RPM holds what a service needs, with the configuration marked as such.
set -eu
rpm -qlp "$1"
for file in /usr/bin/nightjar /usr/lib/systemd/system/nightjar.service /etc/nightjar/nightjar.toml /etc/nightjar/acl.conf; do
    rpm -qlp "$1" | grep -qx "$file"
done
rpm -qcp "$1" | grep -qx /etc/nightjar/nightjar.toml
