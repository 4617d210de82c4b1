#!/bin/sh
# Lays out the files of an image: rootfs.sh BINARY OUT [scratch]
#
# OUT gets the binary, empty folders for configuration and data, and with `scratch` all that a Linux program needs
# besides: the loader and the libraries that ldd names, users, certificate authorities, a folder for temporary files.
# User and group 10001 own what is written to.
set -eu
binary=$1
out=$2

install -D -m 755 "$binary" "$out/usr/bin/nightjar"
# Names of functions are 7 MB of it; an image that builds has the tool that takes them out.
! command -v strip >/dev/null || strip -s "$out/usr/bin/nightjar"
install -d -m 755 "$out/etc/nightjar"
install -d -m 750 -o 10001 -g 10001 "$out/var/lib/nightjar"
[ "${3:-}" = scratch ] || exit 0

install -d -m 1777 "$out/tmp"
install -d -m 755 "$out/etc/ssl/certs"
printf 'root:x:0:0:root:/:/nonexistent\nnightjar:x:10001:10001:Nightjar:/var/lib/nightjar:/nonexistent\n' >"$out/etc/passwd"
printf 'root:x:0:\nnightjar:x:10001:\n' >"$out/etc/group"
# Names of other nodes and databases: /etc/hosts first, then DNS.
printf 'hosts: files dns\n' >"$out/etc/nsswitch.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$out/etc/ssl/certs/"
# Lines of ldd: `libc.so.6 => /lib/.../libc.so.6 (0x...)` and `/lib64/ld-linux-x86-64.so.2 (0x...)`.
ldd "$binary" | awk '$2 == "=>" && $3 ~ /^\// { print $3; next } $1 ~ /^\// { print $1 }' | while read -r library; do
    install -d "$out$(dirname "$library")"
    cp -L "$library" "$out$library"
done
