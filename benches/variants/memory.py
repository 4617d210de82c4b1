#!/usr/bin/env python3
"""What memory Nightjar takes with other allocators or settings: empty, idle TCP clients, MQTT-SN sensors asleep.

    benches/variants/memory.py [--bin target/release/nightjar] [--clients 15000] NAME[:VAR=VALUE[,VAR=VALUE]] ...

as `glibc`, `arenas:MALLOC_ARENA_MAX=2`, `jemalloc:LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2`. For each variant and
each kind of client a fresh broker; resident set of /proc/PID/smaps_rollup before, with all clients, and after they left.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Rss line")


def settled(pid):
    """The resident set when it has stopped moving."""
    last, same = resident(pid), 0
    for _ in range(60):
        time.sleep(0.5)
        now = resident(pid)
        same = same + 1 if abs(now - last) < 65536 else 0
        last = now
        if same == 3:
            break
    return last


class Broker:
    def __init__(self, nightjar, environment, data):
        sets = [f"node.data_dir={data}", "durability=memory", "api.enable=false", "listeners.tcp.default.bind=127.0.0.1:0",
                "listeners.mqttsn.default.bind=127.0.0.1:0", "listeners.mqttsn.default.new_sessions_per_source=1000000/s"]
        sets += [f"listeners.{other}.default.enable=false" for other in ("ws", "tls", "wss")]
        command = [nightjar, "serve"]
        for one in sets:
            command += ["--set", one]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        env={**os.environ, **environment})
        words = {}
        while "tcp:default" not in words:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("the broker ended at its start")
            words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        self.pid = self.process.pid
        self.tcp = words["tcp:default"].rpartition(":")[2]
        self.sn = words["mqttsn:default"].rpartition(":")[2]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def tcp(nightjar, broker, count):
    bench = subprocess.Popen(
        [nightjar, "bench", "sub", "-h", "127.0.0.1", "-p", broker.tcp, "-c", str(count), "-i", "0", "-t", "idle/%i", "-k", "3600"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    try:
        for line in bench.stdout:
            if f"connected {count}/{count} " in line:
                break
        return settled(broker.pid)
    finally:
        bench.send_signal(signal.SIGKILL)
        bench.wait()


def asleep(nightjar, broker, count):
    out = subprocess.run(
        [nightjar, "bench", "sn", "-h", "127.0.0.1", "-p", broker.sn, "--pid", str(broker.pid), "-c", str(count), "--forwarders", "64",
         "--short-topic", "ab", "-k", "3600", "--sleep", "3600", "--rest", "2", "--json"],
        capture_output=True, text=True, check=False,
    ).stdout
    return json.loads(out)["server"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default="target/release/nightjar")
    parser.add_argument("--clients", type=int, default=15000)
    parser.add_argument("variants", nargs="+")
    args = parser.parse_args()
    nightjar = os.path.abspath(args.bin)
    print(f"{'variant':16} {'empty MB':>9} {'TCP client':>11} {'after MB':>9} {'sn connected':>13} {'sn asleep':>10}   bytes each", flush=True)
    for variant in args.variants:
        name, _, words = variant.partition(":")
        environment = dict(word.split("=", 1) for word in words.split(",") if word)
        with tempfile.TemporaryDirectory() as scratch:
            broker = Broker(nightjar, environment, f"{scratch}/tcp")
            try:
                time.sleep(2)
                empty = resident(broker.pid)
                each = (tcp(nightjar, broker, args.clients) - empty) / args.clients
                time.sleep(1)
                after = settled(broker.pid)
            finally:
                broker.end()
            broker = Broker(nightjar, environment, f"{scratch}/sn")
            try:
                time.sleep(2)
                server = asleep(nightjar, broker, args.clients)
            finally:
                broker.end()
        print(f"{name:16} {empty / 1e6:9.1f} {each:11.0f} {after / 1e6:9.1f} {server['bytes_per_connected']:13} "
              f"{server['bytes_per_asleep']:10}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
