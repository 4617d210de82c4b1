#!/usr/bin/env python3
"""What it costs to look at a busy node: lists, metrics, live figures, and messages meanwhile.

    benches/api.py [--bin target/release/nightjar] [--clients 15000] [--each 67]

A broker on free ports, held by this script: 15,000 clients with 67 subscriptions each (a million), 10,000 retained
messages. Then, one after the other:

- idle: CPU of the broker while nobody looks and nothing is sent;
- lists: every list of the API, the slowest of five; the bound is 200 ms;
- scrape: /metrics, the slowest of twenty; the bound is 5 ms;
- live: from the opening of a page's WebSocket to its first figure; the bound is 1 s;
- messages: `nightjar bench pair` at a given rate, in turns with nobody looking and with two open pages that also load the
  client list each second: p50 and p99 of both.

Exits with 1 if a bound is missed. CPU is read from /proc/PID/stat, the pages' own work is in this process.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import resource
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

TICK = os.sysconf("SC_CLK_TCK")
BOUNDS = {"list": 200.0, "scrape": 5.0, "live": 1000.0, "idle": 0.5}


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Rss line")


# ---- clients ----

def text(value):
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def packet(kind, body):
    length, head = len(body), bytes([kind])
    while True:
        head += bytes([length % 128 | (0x80 if length > 127 else 0)])
        length //= 128
        if not length:
            return head + body


def connect(client):
    return packet(0x10, text("MQTT") + bytes([4, 2, 0, 0]) + text(client))


def hold(port, count, each):
    """Clients of 3.1.1 without keep alive, subscribed; their sockets."""
    sockets, waiting = [], []
    for number in range(count):
        stream = socket.create_connection(("127.0.0.1", port))
        # Few first levels of the tree, much below them.
        filters = b"".join(text(f"site/{number % 1000}/device/{number}/value/{one}") + b"\0" for one in range(each))
        stream.sendall(connect(f"client-{number * 7919 % count:06}") + packet(0x82, b"\0\1" + filters))
        sockets.append(stream)
        waiting.append(stream)
        if len(waiting) == 200 or number == count - 1:
            for one in waiting:
                taken(one, 4 + 4 + each + (each + 2 > 127))
            waiting.clear()
    return sockets


def taken(stream, length):
    got = b""
    while len(got) < length:
        more = stream.recv(length - len(got))
        if not more:
            raise RuntimeError(f"a client was refused: {got!r}")
        got += more
    if got[:4] != b"\x20\x02\0\0" or got[4] != 0x90 or max(got[-5:]) > 2:
        raise RuntimeError(f"a client got {got!r}")


def retain(port, count):
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.sendall(connect("keeper"))
        stream.recv(4)
        for number in range(count):
            stream.sendall(packet(0x31, text(f"kept/{number % 100}/{number}") + b"x" * 64))
        stream.sendall(b"\xc0\0")
        stream.recv(2)
        stream.sendall(b"\xe0\0")


# ---- the API ----

class Api:
    def __init__(self, port, password):
        self.port, self.token = port, None
        _, body = self.ask("POST", "/api/v1/login", {"username": "admin", "password": password})
        self.token = json.loads(body)["token"]
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]}")
        return answer.status, data

    def timed(self, path):
        """(milliseconds, body) of one GET on a connection that is kept."""
        begin = time.monotonic()
        self.connection.request("GET", path, headers={"authorization": f"Bearer {self.token}"})
        answer = self.connection.getresponse()
        data = answer.read()
        took = (time.monotonic() - begin) * 1000
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status} {data[:300]}")
        return took, data

    def lists(self):
        """Every GET of the description without a name in its path, and the lists with what people ask them for."""
        middle = lambda key: base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")  # noqa: E731
        query = urllib.parse.urlencode
        client, site = "client-007500", "site/500/device/7500/value/5"
        some = [
            "/clients?limit=1000", "/clients?" + query({"limit": 1000, "cursor": middle(client)}),
            "/clients?" + query({"like_clientid": "9999"}), "/clients?" + query({"username": "nobody"}),
            "/subscriptions?limit=1000", "/subscriptions?" + query({"limit": 1000, "cursor": middle([client, "site/5"])}),
            "/subscriptions?" + query({"topic": site}), "/subscriptions?" + query({"match_topic": site}),
            "/subscriptions?" + query({"clientid": client}), f"/clients/{client}", f"/clients/{client}/subscriptions",
            f"/clients/{client}/timeline",
            "/topics?limit=1000", "/topics?" + query({"limit": 1000, "cursor": middle("site/5")}), "/topics?" + query({"topic": site}),
            "/topics/tree?limit=1000", "/topics/tree?" + query({"prefix": "site", "limit": 1000}),
            "/topics/tree?" + query({"prefix": "site/500"}),
            "/retained?limit=1000", "/retained?" + query({"filter": "kept/5/#"}), "/retained?" + query({"filter": "+/+/9999"}),
        ]
        # One that was quiet for long was closed.
        self.connection.close()
        described = json.loads(self.timed("/api/v1/openapi.json")[1])["paths"]
        plain = [path for path, verbs in described.items() if "get" in verbs and "{" not in path]
        paths = sorted(plain) + [f"/api/v1{path}" for path in some]
        return paths + ["/api/v5/clients?limit=1000", "/api/v5/subscriptions?limit=1000", "/api/v5/topics?limit=1000", "/api/v5/nodes"]


class Page:
    """An open page: live figures, and the client list each second."""

    def __init__(self, api):
        self.api, self.stream = api, socket.create_connection(("127.0.0.1", api.port))
        self.stopped, self.pushes = threading.Event(), 0
        begin = time.monotonic()
        key = base64.b64encode(os.urandom(16)).decode()
        self.stream.sendall((f"GET /api/v1/live HTTP/1.1\r\nhost: 127.0.0.1:{api.port}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                             f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n").encode())
        self.file = self.stream.makefile("rb")
        while self.file.readline() != b"\r\n":
            pass
        self.send({"type": "auth", "token": api.token})
        self.send({"type": "subscribe", "topics": ["overview", "nodes", "clients", "alarms"]})
        while self.read()["type"] != "overview":
            pass
        self.first = (time.monotonic() - begin) * 1000
        self.threads = [threading.Thread(target=self.watch, daemon=True), threading.Thread(target=self.poll, daemon=True)]

    def send(self, value):
        data = json.dumps(value).encode()
        head = bytes([0x81, 0x80 | len(data)]) if len(data) < 126 else bytes([0x81, 0xFE]) + struct.pack(">H", len(data))
        self.stream.sendall(head + bytes(4) + data)

    def read(self):
        while True:
            first, length = self.file.read(2)
            if length == 126:
                (length,) = struct.unpack(">H", self.file.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.file.read(8))
            data = self.file.read(length)
            if first & 15 == 1:
                return json.loads(data)

    def watch(self):
        try:
            while not self.stopped.is_set():
                self.read()
                self.pushes += 1
        except (OSError, ValueError, TypeError):
            pass

    def poll(self):
        while not self.stopped.wait(1):
            self.api.ask("GET", "/api/v1/clients?limit=100")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.stream.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(10)
        self.stream.close()
        if self.pushes < 3:
            raise RuntimeError(f"an open page got {self.pushes} pushes")


# ---- what is measured ----

class Bench:
    def __init__(self, args):
        self.args, self.missed = args, []

    def judge(self, bound, value, told):
        if value > BOUNDS[bound]:
            self.missed.append(told)
        return "" if value <= BOUNDS[bound] else "   MISSED"

    def idle(self, pid, seconds=30):
        before = cpu(pid)
        time.sleep(seconds)
        share = (cpu(pid) - before) / seconds * 100
        print(f"idle, nobody looks: {share:.2f} % of a core in {seconds} s{self.judge('idle', share, 'idle')}", flush=True)

    def lists(self, api):
        print(f"\n{'list, milliseconds (slowest of five)':72} {'ms':>7} {'bytes':>9}")
        slowest = 0
        for path in api.lists():
            done = [api.timed(path) for _ in range(5)]
            took = max(ms for ms, _ in done)
            slowest = max(slowest, took)
            print(f"{path[:72]:72} {took:7.1f} {len(done[0][1]):9}{self.judge('list', took, path)}", flush=True)
        print(f"slowest list: {slowest:.1f} ms\n")

    def scrape(self, api):
        done = [api.timed("/metrics") for _ in range(20)]
        times = sorted(ms for ms, _ in done)
        print(f"/metrics: median {statistics.median(times):.1f} ms, slowest of twenty {times[-1]:.1f} ms, {len(done[0][1])} bytes"
              f"{self.judge('scrape', times[-1], 'scrape')}", flush=True)

    def live(self, api):
        times = []
        for _ in range(5):
            page = Page(api)
            times.append(page.first)
            page.stream.close()
        print(f"first live figure: {max(times):.0f} ms (slowest of five){self.judge('live', max(times), 'live')}", flush=True)

    def pair(self, port):
        words = [self.args.bin, "bench", "pair", "-h", "127.0.0.1", "-p", str(port), "-c", "50", "--rate", str(self.args.rate), "-q", "1",
                 "--duration", str(self.args.seconds), "--warmup", "2", "-i", "0", "--json"]
        return json.loads(subprocess.run(words, capture_output=True, text=True, check=True, env=clean()).stdout)

    def messages(self, api, port):
        rounds = {"nobody looks": [], "two pages open": []}
        for _ in range(self.args.rounds):
            rounds["nobody looks"].append(self.pair(port))
            with Page(api), Page(api):
                rounds["two pages open"].append(self.pair(port))
        for name, results in rounds.items():
            told = "   ".join(f"{percentile(one, 'p50'):.2f} / {percentile(one, 'p99'):.2f}" for one in results)
            print(f"messages, {self.args.rate}/s, QoS 1, {name}: p50 / p99 ms of each round: {told}", flush=True)


def percentile(result, name):
    return result["latency"][f"{name}_us"] / 1000


def clean():
    return {name: value for name, value in os.environ.items() if not name.startswith("NIGHTJAR_")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default="target/release/nightjar")
    parser.add_argument("--clients", type=int, default=15000)
    parser.add_argument("--each", type=int, default=67)
    parser.add_argument("--retained", type=int, default=10000)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    args = parser.parse_args()
    args.bin = os.path.abspath(args.bin)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    bench = Bench(args)
    with tempfile.TemporaryDirectory() as scratch:
        sets = ["durability=memory", f"node.data_dir={scratch}/data", "api.bind=127.0.0.1:0", "listeners.tcp.default.bind=127.0.0.1:0",
                *(f"listeners.{other}.default.enable=false" for other in ("ws", "tls", "wss", "mqttsn"))]
        command = [args.bin, "serve", *(word for one in sets for word in ("--set", one))]
        broker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=scratch, env=clean())
        try:
            words = dict(word.split("=", 1) for word in broker.stdout.readline().split()[2:])
            threading.Thread(target=broker.stdout.read, daemon=True).start()
            port = int(words["tcp:default"].rpartition(":")[2])
            begin = time.monotonic()
            sockets = hold(port, args.clients, args.each)
            retain(port, args.retained)
            api = Api(int(words["api"].rpartition(":")[2]), pathlib.Path(scratch, "data", "admin-password").read_text().strip())
            stats = json.loads(api.timed("/api/v1/stats")[1])
            print(f"{stats['connections.count']} clients, {stats['subscriptions.count']} subscriptions, {stats['retained.count']} retained "
                  f"messages, made in {time.monotonic() - begin:.0f} s; the broker holds {resident(broker.pid) / 2**20:.0f} MiB", flush=True)
            time.sleep(10)
            bench.idle(broker.pid)
            bench.lists(api)
            bench.scrape(api)
            bench.live(api)
            bench.messages(api, port)
            del sockets
        finally:
            broker.send_signal(signal.SIGTERM)
            broker.wait()
    for what in bench.missed:
        print(f"MISSED  {what}")
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
