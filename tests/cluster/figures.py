#!/usr/bin/env python3
"""What a cluster costs on this machine, in a few figures: takeover, subscriptions seen elsewhere, filters spread, messages
forwarded, messages replicated.

    python3 tests/cluster/figures.py --bin target/release/nightjar
"""

import json
import os
import pathlib
import statistics
import subprocess
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


def written(node):
    """Bytes that a node has given to the disk so far."""
    lines = pathlib.Path(f"/proc/{node.process.pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


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


def pairs(cluster, *more):
    """What `nightjar bench pair` says of 100 publishers of QoS 1 and their 100 persistent subscribers."""
    words = ["bench", "pair", "-h", "127.0.0.1", "-p", str(cluster.nodes[1].mqtt), "-c", "100", "-q", "1", "-C", "false", "-x", "3600",
             "-i", "0", "--warmup", "1", "--duration", "6", "--json", "--quiet", *more]
    done = subprocess.run([str(cluster.binary), *words], capture_output=True, timeout=60, check=True)
    return json.loads(done.stdout)


def acknowledged(said):
    ack = said["ack_latency"]
    return (f"{said['published']['per_second']:.0f} published and acknowledged/s, p50 {ack['p50_us'] / 1000:.1f} ms, "
            f"p99 {ack['p99_us'] / 1000:.1f} ms, lost {said['received']['lost']}")


@run.case
def replicated(cluster):
    """QoS 1 to persistent sessions, one to one: acknowledged when a majority has it on its disk."""
    nodes = list(cluster.nodes.values())
    before = sum(map(written, nodes))
    full = pairs(cluster, "-I", "0", "-F", "40")
    bytes_each = (sum(map(written, nodes)) - before) / (full["published"]["messages"] * 256)
    paced = pairs(cluster, "--rate", "15000")
    return (f"as fast as it goes: {acknowledged(full)}, {bytes_each:.1f} bytes written by all three for each of payload; "
            f"at 15,000/s: {acknowledged(paced)}")


if __name__ == "__main__":
    with open("/proc/loadavg", encoding="ascii") as file:
        print(f"load of the machine before: {file.read().split()[0]} on {os.cpu_count()} processors")
    sys.exit(run.main("figures"))
