#!/usr/bin/env python3
"""What an idle client costs the broker: resident bytes and CPU of its connect, over each transport.

    benches/idle.py [--bin target/release/nightjar] [--clients 15000]

For each transport a fresh broker is started on free ports, `nightjar bench sub` connects that many clients (MQTT 5.0,
clean start, one subscription each to a topic of its own) and holds them; the broker's resident set is read from
/proc/PID/smaps_rollup and its CPU time from /proc/PID/stat, before and after. Prints one row a transport.
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

TICK = os.sysconf("SC_CLK_TCK")


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Rss line")


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def connections(nightjar, data):
    out = subprocess.run(
        [nightjar, "ctl", "--data-dir", str(data), "--output", "json", "status"],
        capture_output=True, check=True, text=True,
    ).stdout
    value = json.loads(out)
    if isinstance(value, list):
        value = value[0]
    return value["connections"]


def run(nightjar, scratch, name, clients):
    data = scratch / name
    tls = scratch / "tls"
    if not tls.exists():
        for command in (["ca"], ["server", "localhost", "127.0.0.1"]):
            subprocess.run([nightjar, "certs", *command, "--out", str(tls)], check=True, capture_output=True)
    sets = [f"listeners.{name}.default.bind=127.0.0.1:0"]
    if name in ("tls", "wss"):
        sets += [f"listeners.{name}.default.cert_file={tls}/server.crt",
                 f"listeners.{name}.default.key_file={tls}/server.key"]
    command = [nightjar, "serve", "--set", f"node.data_dir={data}", "--set", "durability=memory"]
    sets += [f"listeners.{other}.default.enable=false" for other in ("tcp", "ws", "tls", "wss", "mqttsn") if other != name]
    sets.append("api.enable=false")
    for one in sets:
        command += ["--set", one]
    broker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    bench = None
    try:
        ready = broker.stdout.readline()
        words = dict(word.split("=", 1) for word in ready.split()[2:])
        port = words[f"{name}:default"].rpartition(":")[2]
        time.sleep(1)
        before, busy = resident(broker.pid), cpu(broker.pid)
        begin = time.monotonic()
        flags = {"tcp": [], "ws": ["--ws"], "tls": ["-S", "--insecure"], "wss": ["--ws", "-S", "--insecure"]}[name]
        bench = subprocess.Popen(
            [nightjar, "bench", "sub", "-h", "127.0.0.1", "-p", port, "-c", str(clients), "-i", "0", "-t", "idle/%i",
             "-q", "0", "-k", "3600", "--quiet", *flags],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        while connections(nightjar, data) < clients:
            if bench.poll() is not None:
                raise RuntimeError(f"bench ended: {bench.stderr.read()}")
            time.sleep(0.2)
        took = time.monotonic() - begin
        time.sleep(3)
        after, spent = resident(broker.pid), cpu(broker.pid) - busy
        print(f"{name:4} {clients:7} clients  {(after - before) / clients:8.0f} B each  "
              f"{spent / clients * 1e6:7.1f} us CPU each (connect, subscribe)  {clients / took:7.0f} connects/s  "
              f"process before {before / 2**20:.1f} MiB", flush=True)
    finally:
        for process in (bench, broker):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGKILL if process is bench else signal.SIGTERM)
                process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default="target/release/nightjar")
    parser.add_argument("--clients", type=int, default=15000)
    parser.add_argument("--only", default="tcp,ws,tls,wss")
    args = parser.parse_args()
    nightjar = os.path.abspath(args.bin)
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.only.split(","):
            run(nightjar, pathlib.Path(scratch), name, args.clients)
    return 0


if __name__ == "__main__":
    sys.exit(main())
