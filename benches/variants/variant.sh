#!/bin/sh
# One more Nightjar for nightjar-compare, with the same limits and another environment or setting:
#
#   nightjar-compare --peer nagle="benches/variants/variant.sh {port} LD_PRELOAD=/tmp/shim.so TUNE_NAGLE=1" ...
#
# Words NAME=VALUE with a capital first letter go to the environment, others to --set. BIN is the program.
port=$1
shift
bin=${BIN:-target/release/nightjar}
set -- "$@" \
    listeners.tcp.default.bind="127.0.0.1:$port" listeners.tls.default.enable=false listeners.ws.default.enable=false \
    listeners.wss.default.enable=false listeners.mqttsn.default.enable=false api.enable=false node.data_dir=data \
    auth.allow_anonymous=true acl.no_match=allow mqtt.max_inflight=1000 mqtt.max_awaiting_rel=1000 \
    mqtt.max_queue_len=100000 mqtt.max_queue_bytes=64MiB
count=$#
while [ "$count" -gt 0 ]; do
    word=$1
    shift
    case $word in
    [A-Z]*) environment="$environment $word" ;;
    *) set -- "$@" --set "$word" ;;
    esac
    count=$((count - 1))
done
# Values of the environment have no spaces here.
# shellcheck disable=SC2086
exec env $environment "$bin" serve "$@"
