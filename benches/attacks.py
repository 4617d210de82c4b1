#!/usr/bin/env python3
"""What others wait for while somebody attacks, and while 1,000 clients log in at once: the p99 of a client that publishes to
itself at QoS 1, against its quiet value of the same run.

    cargo build --release && python3 benches/attacks.py --bin target/release/nightjar

The attacker is a process of its own bound to the first core, the client that is measured to the last one; the broker may
use all of them. Quiet and attacked phases take turns on the same broker, so that a machine that is busy with other things
is so in both. Figures are the median of the rounds.
"""

import argparse
import multiprocessing
import os
import pathlib
import platform
import socket
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "security"))

import attacks  # noqa: E402
from kit import Client, Node, check, token, wire  # noqa: E402

SECRET = b"topsecret"
CORES = sorted(os.sched_getaffinity(0))


def pinned(core=None):
    """Binds this process to one core, or to none: what it starts inherits that."""
    os.sched_setaffinity(0, CORES if core is None else {CORES[core]})


def connects(port, packet):
    """One connection with this CONNECT, to its answer."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.settimeout(30)
        try:
            sock.sendall(packet)
            return sock.recv(200)
        except OSError:
            return b""


def many(port, count, packet):
    """`count` connections at once, each answered."""
    socks = []
    for number in range(count):
        sock = socket.create_connection(("127.0.0.1", port), 30)
        sock.settimeout(120)
        sock.sendall(packet(number))
        socks.append(sock)
    codes = {}
    for sock in socks:
        try:
            answer = sock.recv(200)
        except OSError:
            answer = b""
        code = answer[3] if len(answer) > 3 else None
        codes[code] = codes.get(code, 0) + 1
        sock.close()
    return codes


# ---- what is done to the broker: each until its time is over ----


def storm(ports, _):
    """1,000 logins at once, each an Argon2id of its own (auth.cache_ttl = off)."""
    codes = many(ports["tcp"], 1000, lambda n: wire.connect(f"storm{n}", user="ann", password="secret"))
    return f"{codes.get(0, 0)} let in, {1000 - codes.get(0, 0)} told to come later"


def repeated(work):
    def attack(ports, until):
        count = 0
        while time.monotonic() < until:
            work(ports, count)
            count += 1
        return f"{count} times"
    return attack


wrong_passwords = repeated(lambda ports, n: connects(
    ports["tcp"], wire.connect("guess", user="ann", password=f"guess{n}")))
forged_tokens = repeated(lambda ports, n: connects(
    ports["tcp"], wire.connect("forge", user="ann", password=token(b"other", {"n": n}))))
oversized_tokens = repeated(lambda ports, n: connects(
    ports["tcp"], wire.connect("large", user="ann", password="a." + "b" * 60_000 + f".{n}")))
proxy_headers = repeated(lambda ports, n: connects(
    ports["proxied"], b"PROXY TCP4 10.0.0.1 127.0.0.1 555 1883\r\n" + wire.connect("spoof")))
connect_flood = repeated(lambda ports, n: connects(ports["tcp"], wire.connect(f"flood{n}", user="nobody", password="x")))
takeovers = repeated(lambda ports, n: connects(
    ports["tcp"], wire.connect("probe", user="mallory", password="secret")))


def handshakes(ports, until):
    """TLS hellos that are never finished."""
    hello, count = attacks.client_hello(), 0
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", ports["tls"]), 10) as sock:
                sock.sendall(hello)
                sock.settimeout(5)
                sock.recv(100)
        except OSError:
            pass
        count += 1
    return f"{count} times"


def slow_loris(ports, until):
    """400 connections that send a byte of CONNECT each quarter of a second."""
    packet, socks = wire.connect("loris" * 100), []
    for _ in range(400):
        socks.append(socket.create_connection(("127.0.0.1", ports["tcp"]), 10))
    for byte in packet:
        for sock in socks:
            try:
                sock.send(bytes([byte]))
            except OSError:
                pass
        if time.monotonic() > until:
            break
        time.sleep(0.25)
    return "400 connections"


BUILTIN = '[[auth.chain]]\nkind = "builtin"\n'
JWT = f'[[auth.chain]]\nkind = "jwt"\nsecret = "{SECRET.decode()}"\n'
PROXIED = '''[listeners.tcp.default]
bind = "127.0.0.1:0"
[listeners.tcp.proxied]
bind = "127.0.0.1:0"
proxy_protocol = "optional"
trusted_proxies = ["10.9.8.7"]
'''
ATTACKS = [
    ("1,000 logins with Argon2id", storm, '[auth]\ncache_ttl = "off"\n' + BUILTIN),
    ("wrong passwords", wrong_passwords, attacks.FILE),
    ("forged tokens", forged_tokens, JWT + attacks.FILE),
    ("oversized tokens", oversized_tokens, JWT + attacks.FILE),
    ("PROXY headers of a stranger", proxy_headers, PROXIED + attacks.FILE),
    ("takeovers of a client id", takeovers, "[auth]\nbind_client_id = true\n" + attacks.FILE),
    ("slow-loris before CONNECT", slow_loris, attacks.FILE),
    ("TLS handshakes without end", handshakes, attacks.FILE),
    ("connects", connect_flood, attacks.FILE + '[limits.address]\nconnects = "200/s"\n'),
]


def measured(client, until):
    """Seconds from a message to its own arrival, until that time or while that process is at it."""
    waits, number = [], 0
    while until():
        number += 1
        begin = time.perf_counter()
        payload = str(number).encode()
        client.publish("probe/t", payload)
        check(client.message(10).payload == payload, "a message is lost")
        waits.append(time.perf_counter() - begin)
        time.sleep(0.002)
    return waits


def p99(waits):
    return sorted(waits)[int(len(waits) * 0.99)] * 1000


def attacker(work, ports, seconds, told):
    pinned(0)
    told.put(work(ports, time.monotonic() + seconds))


def run(binary, name, work, config, seconds, rounds):
    users = {"users": attacks.USERS}
    pinned()
    with Node(binary, config, users) as node:
        pinned(-1)
        ports = {"tcp": node.port("tcp"), "tls": node.port("tls")}
        if "tcp:proxied" in node.endpoints:
            ports["proxied"] = int(node.endpoints["tcp:proxied"].rpartition(":")[2])
        if config.endswith(BUILTIN):
            for user in ("probe", "ann"):
                node.ctl("users", "add", user, "--password", "secret")
        client = Client(ports["tcp"], "probe", user="probe", password="secret",
                        source="127.0.0.2" if "limits.address" in config else None)
        # Without it the client's own kernel holds an acknowledgement back for 40 ms.
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.subscribe("probe/t")
        end = time.monotonic() + 1
        measured(client, lambda: time.monotonic() < end)
        quiet, under, most, said = [], [], 0, ""
        for _ in range(rounds):
            end = time.monotonic() + seconds
            quiet.append(p99(measured(client, lambda: time.monotonic() < end)))
            told = multiprocessing.Queue()
            process = multiprocessing.Process(target=attacker, args=(work, ports, seconds, told))
            process.start()
            under.append(p99(measured(client, process.is_alive)))
            process.join()
            said = told.get()
            most = max(most, node.resident())
        client.end()
    calm, busy = statistics.median(quiet), statistics.median(under)
    print(f"{name:<30}{calm:>10.2f}{busy:>10.2f}{busy / calm:>8.2f}{most >> 20:>10}   {said}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    binary = str(pathlib.Path(args.bin).resolve())
    print(f"{platform.platform()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, "
          f"{args.rounds} rounds of {args.seconds:g} s")
    print(f"{'':<30}{'quiet p99':>10}{'attacked':>10}{'ratio':>8}{'MiB most':>10}   (ms, of a QoS 1 message to oneself)")
    for name, work, config in ATTACKS:
        if args.only in name:
            run(binary, name, work, config, args.seconds, args.rounds)


if __name__ == "__main__":
    main()
