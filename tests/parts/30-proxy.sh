# shellcheck shell=bash disable=SC2154
# HAProxy and NGINX with the files of etc/ in front of three brokers.
# shellcheck disable=SC2154  # target, scratch: of tests/run
add_part proxy

packages_proxy() {
    have python3 || echo python3
    have_server haproxy || echo haproxy
    have_server nginx || echo nginx
    [ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || echo libnginx-mod-stream
}

part_proxy() {
    if ! have python3; then
        skip proxy "python3 is not installed"
        return
    fi
    broker_binary proxy || return
    run timeout 300 python3 tests/proxy/run.py --bin "$target/debug/nightjar"
    count_script proxy $?
    run timeout 300 python3 tests/proxy/through_udp.py --bin "$target/debug/nightjar"
    count_script sensors $?
}
