#!/usr/bin/env python3
"""What a cluster of 10, 30 and 100 nodes can carry and what ends first, computed from what was measured.

    python3 benches/capacity.py           prints the tables of docs/cluster-capacity.md
    python3 benches/capacity.py --write   puts them there
    python3 benches/capacity.py --check   ends with 1 if the page has others, or a record does not say what is quoted here

Nothing here was measured with so many nodes: every figure of the tables is arithmetic on the costs below, each of which
stands in a record of benches/results as quoted.
"""

import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cluster-capacity.md"
BEGIN, END = "<!-- capacity.py -->", "<!-- end -->"
NODES = (10, 30, 100)

# What a node is taken to be. Two processors are those of the records.
PROCESSORS = 2
MEMORY = 8 << 30
NETWORK = {"1 Gbit/s": 125_000_000, "10 Gbit/s": 1_250_000_000}
PAYLOAD = 256
# Share of memory for state, and of processor time for work: the rest is for what comes in bursts.
SHARE = 0.75

# name: (value, unit, file, quotation)
COSTS = {
    "durable": (230_319, "acknowledged messages/s, QoS 1, 256 B, three nodes and clients on 2 processors",
                "cluster-2026-11-20.txt", "230,319/s, p50 16.4 ms"),
    "written": (3.7 / 3, "bytes a node writes for a byte of payload: 3.7 of three nodes",
                "cluster-2026-11-20.txt", "3.7 bytes written by all three for each byte of payload"),
    "near": (0.90, "us CPU, QoS 0 from one client to one, at one node",
             "cluster-2026-11-20.txt", "beside 0.90 us at one node"),
    "far": (1.36, "us CPU, the same to another node, all nodes together",
            "cluster-2026-11-20.txt", "1.36 us of processor time a message, all three nodes together"),
    "filters": (100_000 / 1.5, "filters/s of one node seen by the others: 100,000 in 1.5 s",
                "cluster-2026-11-20.txt", "100,000 filters of one node, seen by the others:                  1.5 s"),
    "session": (1272, "bytes, durable session without a connection, one subscription",
                "durability-2026-11-20.txt", "an offline durable session with one subscription: 1,272 bytes resident"),
    "entry": (32, "bytes, one message in one queue, beside its body",
              "durability-2026-11-20.txt", "32 are the index entry"),
    "retained": (245, "bytes, a retained message of 32 B",
                 "durability-2026-11-20.txt", "245 bytes resident each"),
    "client": (2516, "bytes, a connected MQTT 5.0 client with one subscription",
               "idle-2026-11-20.txt", "2516 B each     33.3 us CPU each (connect, subscribe)"),
    "tls": (6090, "bytes, the same over TLS",
            "idle-2026-11-20.txt", "6090 B each    210.7 us CPU each (connect, subscribe)"),
    "connect": (33.3, "us CPU, TCP: connect and subscribe",
                "idle-2026-11-20.txt", "2516 B each     33.3 us CPU each (connect, subscribe)"),
    "connect tls": (210.7, "us CPU, TLS: connect and subscribe",
                    "idle-2026-11-20.txt", "6090 B each    210.7 us CPU each (connect, subscribe)"),
    "sleeper": (2197, "bytes, a connected MQTT-SN sensor",
                "mqttsn-2026-11-20.txt", "2197 bytes for each sensor connected, 2640 asleep"),
    "route": (106, "bytes, a filter of another node in memory",
              "cluster-quiet-2026-11-20.txt", "100000 routes of another node: 106 bytes resident each"),
    "leader quiet": (566, "bytes/s the leader sends to each other node while nothing happens: 1,133 to two",
                     "cluster-quiet-2026-11-20.txt", "quiet, leader: sends 1133 bytes/s"),
    "to leader": (461, "bytes/s another node sends to the leader meanwhile (lease, load, how far it has applied)",
                  "cluster-quiet-2026-11-20.txt", "[76, 80, 112, 349]"),
    "other quiet": (156, "bytes/s a node that does not lead sends to one that does not either",
                    "cluster-quiet-2026-11-20.txt", "[76, 80, 112, 349]"),
}


def cost(name):
    return COSTS[name][0]


def si(value, digits=3):
    """Three digits that matter, grouped: 1,230,000."""
    if value < 100:
        return f"{value:.2g}" if value < 10 else f"{value:.0f}"
    scale = 10 ** max(0, len(str(int(value))) - digits)
    return f"{int(value / scale) * scale:,}"


def seconds(value):
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def durable(nodes, network):
    """Acknowledged durable messages/s: the log is one, and its leader sends each entry to every other node."""
    wire = network * SHARE / (PAYLOAD * cost("written") * (nodes - 1))
    return min(cost("durable"), wire)


def rows():
    processor = PROCESSORS * 1e6 * SHARE
    memory = MEMORY * SHARE
    hop = cost("far") - cost("near")

    def each(name, fn):
        return [name, *(fn(nodes) for nodes in NODES)]
    yield each("QoS 0, one to one at another node, messages/s", lambda n: si(n * processor / cost("far")))
    yield each("QoS 0, wanted at every node by one client each, messages/s published",
               lambda n: si(n * processor / (cost("near") * n + hop * (n - 1))))
    for name, network in NETWORK.items():
        yield each(f"durable QoS 1, 256 B, {name} links, acknowledged/s", lambda n, w=network: si(durable(n, w)))
    yield each("the same for each node", lambda n: si(durable(n, NETWORK["10 Gbit/s"]) / n))
    yield each("connected clients with a filter each, by memory", lambda n: si(clients(n)))
    yield each("the same over TLS", lambda n: si(clients(n, "tls")))
    yield each("durable sessions, all nodes together", lambda n: si(memory / cost("session")))
    yield each("queued messages of 256 B for one session each, all nodes together",
               lambda n: si(memory / (PAYLOAD + cost("entry"))))
    yield each("retained messages of 32 B, all nodes together", lambda n: si(memory / cost("retained")))
    yield each("distinct filters, all nodes together", lambda n: si(memory / cost("route")))
    yield each("new distinct filters/s, all nodes together", lambda n: si(cost("filters")))
    yield each("the same for each node", lambda n: si(cost("filters") / n))
    yield each("links (TCP connections between nodes)", lambda n: f"{n * (n - 1):,}")
    yield each("links of one node", lambda n: f"{2 * (n - 1):,}")
    yield each("bytes/s a node sends while nothing happens", lambda n: si(cost("to leader") + cost("other quiet") * (n - 2)))
    yield each("bytes/s the leader sends while nothing happens", lambda n: si(cost("leader quiet") * (n - 1)))
    for name, kind in (("TCP", "connect"), ("TLS", "connect tls")):
        yield each(f"a node with 100,000 clients dies: the others have them again, {name}",
                   lambda n, k=kind: seconds(storm(n, k)))


def clients(nodes, kind="client"):
    """Clients of all nodes when each has a filter of its own, which every other node knows."""
    # Each node holds its own clients and the routes of all others.
    per_node = MEMORY * SHARE / (cost(kind) + cost("route") * (nodes - 1))
    return per_node * nodes


def storm(nodes, kind, gone=100_000):
    """The processor time of connecting, spread over the others, or the entries of the log: whichever is more."""
    processor = gone * cost(kind) / 1e6 / ((nodes - 1) * PROCESSORS * SHARE)
    return max(processor, gone / durable(nodes, NETWORK["10 Gbit/s"]))


def table(head, lines):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def text():
    out = ["", "Measured (nodes are taken to have "
           f"{PROCESSORS} processors and {MEMORY >> 30} GiB, of which {SHARE:.0%} are used):", ""]
    out += table(["cost", "what", "record"],
                 [[f"{value:,.2f}".rstrip("0").rstrip("."), unit, f"`benches/results/{file}`"]
                  for value, unit, file, _ in COSTS.values()])
    out += ["", "Computed:", ""]
    out += table(["", *(f"{n} nodes" for n in NODES)], rows())
    return "\n".join([*out, ""])


def check_sources():
    wrong = []
    for name, (_, _, file, quoted) in COSTS.items():
        if quoted not in (ROOT / "benches" / "results" / file).read_text():
            wrong.append(f"{name}: benches/results/{file} does not say {quoted!r}")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if not (args.write or args.check):
        print(text())
        return 0
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    have, _, after = rest.partition(END)
    if args.write:
        PAGE.write_text(before + BEGIN + text() + END + after)
        return 0
    wrong = check_sources()
    if have != text():
        wrong.append("docs/cluster-capacity.md has other tables: python3 benches/capacity.py --write")
    print("\n".join(wrong) or "the page and the records agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
