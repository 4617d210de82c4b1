#!/usr/bin/env python3
"""What a TLS handshake costs the broker: CPU of its process per handshake, full and resumed, TLS 1.2 and 1.3.

    cargo build --release && python3 benches/tls_handshakes.py --bin target/release/nightjar

Clients connect one after another from this process, finish the handshake and close; MQTT is
not spoken. CPU is user and system time of the broker's process from /proc, so that a busy machine changes the rate and
hardly the cost. The rate printed is what two cores give at that cost, without the clients' share.
"""

import argparse
import contextlib
import os
import pathlib
import select
import socket
import ssl
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "security"))

from kit import Node, check  # noqa: E402

CONFIG = 'durability = "memory"\n'


def cpu(pid):
    """Seconds of CPU that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def handshake(port, context, session, ticket=False):
    """One handshake; its session, with the server's ticket if asked for, and whether it was resumed."""
    with socket.create_connection(("127.0.0.1", port), 10) as tcp, \
            context.wrap_socket(tcp, server_hostname="localhost", session=session) as tls:
        resumed = tls.session_reused
        if ticket and tls.version() == "TLSv1.3":
            # Tickets come behind the handshake: they are taken in by a read.
            tls.setblocking(False)
            end = time.monotonic() + 5
            while not tls.session.has_ticket and time.monotonic() < end:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.recv(1)
                select.select([tls], [], [], 0.05)
        return tls.session, resumed


def measure(node, version, resume, count):
    context = ssl.create_default_context(cafile=str(node.ca_file()))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = context.maximum_version = version
    port = node.port("tls")
    session, _ = handshake(port, context, None, True)
    for _ in range(50):
        handshake(port, context, session if resume else None)
    before, begin, resumed = cpu(node.process.pid), time.monotonic(), 0
    for _ in range(count):
        _, reused = handshake(port, context, session if resume else None)
        resumed += reused
    used, took = cpu(node.process.pid) - before, time.monotonic() - begin
    check(resumed == (count if resume else 0), f"{resumed} of {count} were resumed")
    return used / count * 1e6, count / took


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--count", type=int, default=2000)
    args = parser.parse_args()
    # The top-level key stands before the first table.
    node = Node(args.bin, "")
    plain = node.config
    node.config = lambda: CONFIG + plain()
    print(f"load average {os.getloadavg()[0]:.1f} at the start, {os.cpu_count()} cores, {args.count} handshakes each")
    print(f"{'':18} {'us CPU each':>12} {'per s, 2 cores':>15} {'one client, per s':>18}")
    with node:
        for name, version in (("TLS 1.3", ssl.TLSVersion.TLSv1_3), ("TLS 1.2", ssl.TLSVersion.TLSv1_2)):
            for kind, resume in (("full", False), ("resumed", True)):
                each, rate = measure(node, version, resume, args.count)
                print(f"{name + ' ' + kind:18} {each:12.0f} {2e6 / each:15.0f} {rate:18.0f}", flush=True)


if __name__ == "__main__":
    main()
