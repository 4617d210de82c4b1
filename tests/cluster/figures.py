#!/usr/bin/env python3
"""What a cluster costs on this machine, in a few figures: takeover, subscriptions seen elsewhere, filters spread, messages
forwarded.

    python3 tests/cluster/figures.py --bin target/release/nightjar
"""

import os
import pathlib
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import run  # noqa: E402
from run import Session, check, until, wire  # noqa: E402

run.CASES.clear()
FILTERS, PACKET = 100_000, 500
MESSAGES = 200_000


def spread(samples):
    samples = sorted(ms * 1000 for ms in samples)
    return f"p50 {statistics.median(samples):.1f} ms, p99 {samples[int(len(samples) * 0.99)]:.1f} ms of {len(samples)}"


def cpu(node):
    """Seconds of processor time of a node so far."""
    fields = pathlib.Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@run.case
def takeover(cluster):
    """CONNECT to CONNACK of a client that another node has, persistent."""
    took, clients = [], []
    for turn in range(200):
        begin = time.monotonic()
        clients.append(Session(cluster.nodes[turn % 3 + 1].mqtt, "taken", clean=False, v=4))
        took.append(time.monotonic() - begin)
    for client in clients:
        client.drop()
    return spread(took[1:])


@run.case
def subscription_visible(cluster):
    """SUBSCRIBE to SUBACK: by then every node has the route."""
    took = []
    with cluster.nodes[1].client("visible") as client:
        for turn in range(300):
            begin = time.monotonic()
            client.subscribe(f"visible/{turn}", 1)
            took.append(time.monotonic() - begin)
    return spread(took)


@run.case
def filters_spread(cluster):
    """So many distinct filters of one node, until the others know them all."""
    one, two, three = (cluster.nodes[n] for n in run.NODES)
    clients = []
    begin = time.monotonic()
    for number in range(20):
        client = one.client(f"many-{number}")
        for start in range(0, FILTERS // 20, PACKET):
            client.pid += 1
            client.send(wire.subscribe(client.pid, [(f"many/{number}/{start + n}/+", 0) for n in range(PACKET)], client.v))
        clients.append(client)
    for client in clients:
        for _ in range(FILTERS // 20 // PACKET):
            client.answer(wire.SUBACK)
    took = time.monotonic() - begin
    own = one.status()["number"]
    for node in (two, three):
        known = next(it["filters"] for it in node.status()["routes"] if it["node"] == own)
        check(known >= FILTERS, f"node{node.number} knows {known}")
    for client in clients:
        client.end()
    until(lambda: all(it["filters"] < 100 for it in two.status()["routes"]), "forgotten again", 60, pause=0.5)
    return f"{FILTERS} in {took:.1f} s, SUBACK included"


def forwarded(publishing, subscribing, nodes):
    """Microseconds of processor time of all nodes for each message of QoS 0, and messages a second."""
    subscriber = subscribing.client("sink")
    subscriber.subscribe("load/x", 0)
    publisher = publishing.client("source", v=4)
    packet = wire.publish("load/x", b"x" * 64, 0, None, 4) * 500
    got = [0]

    def drain():
        subscriber.sock.settimeout(3)
        try:
            while True:
                data = subscriber.sock.recv(1 << 20)
                if not data:
                    return
                got[0] += len(data)
        except OSError:
            return

    thread = threading.Thread(target=drain)
    thread.start()
    before, begin = sum(map(cpu, nodes)), time.monotonic()
    for _ in range(MESSAGES // 500):
        publisher.send(packet)
    publisher.ping()
    took = time.monotonic() - begin
    thread.join()
    used = sum(map(cpu, nodes)) - before
    each = len(packet) // 500 + 1  # An empty list of properties more.
    arrived = got[0] // each
    subscriber.end()
    publisher.end()
    return used / max(arrived, 1) * 1e6, arrived / took, arrived


@run.case
def forwarding(cluster):
    one, two, _ = (cluster.nodes[n] for n in run.NODES)
    nodes = list(cluster.nodes.values())
    at_home = forwarded(one, one, nodes)
    across = forwarded(one, two, nodes)
    return (f"one node {at_home[0]:.2f} us a message ({at_home[2]} came), two nodes {across[0]:.2f} us ({across[2]} came, "
            f"{across[1]:.0f}/s): {across[0] / at_home[0]:.2f} times")


if __name__ == "__main__":
    with open("/proc/loadavg", encoding="ascii") as file:
        print(f"load of the machine before: {file.read().split()[0]} on {os.cpu_count()} processors")
    sys.exit(run.main("figures"))
