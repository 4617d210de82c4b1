#!/usr/bin/env python3
"""Kills the broker with SIGKILL at random, again and again under load, and proves from what its clients saw that
nothing acknowledged was lost.

    tests/outside/kill/run.py [--bin target/debug/nightjar] [--kills 20] [--seed N] [--durability sync] [--keep]

Publishers of QoS 1 and 2, persistent subscribers that are online, come and go, or stay away to the end (one of them
the Paho library), retained messages set and deleted, subscriptions made and taken back, wills of clients that die
with the broker, leave cleanly, or come back in time. NIGHTJAR_KILLS sets the number of kills. After the loop one more
broker runs with durability = "memory" and is killed once: the checker must find that out, or it proves nothing.
Last line: `N passed, N failed, N skipped`.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parent / "raw"))

import wire  # noqa: E402
from broker import Broker, BrokerError, clean_environment  # noqa: E402
from kill_clients import (  # noqa: E402
    Gone, Link, PahoSubscriber, Publisher, RetainedPublisher, Subscriber, Toggler)
from history import History, Reading, Will, body, ident_of  # noqa: E402
from results import Results  # noqa: E402

GRACE = 1
# The topic of a message that marks the end of a reading.
END = "end/of/reading"
# So little memory for waiting messages that most of them wait on the disk.
EXTRA = """
[limits]
queue_memory = "256KiB"
[mqtt]
max_queue_len = 1000000
max_queue_bytes = "1GiB"
max_inflight = 100
"""


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default="target/debug/nightjar")
    p.add_argument("--kills", type=int, default=int(os.environ.get("NIGHTJAR_KILLS", "20")))
    p.add_argument("--seed", type=int, default=int(os.environ.get("NIGHTJAR_KILL_SEED", "0")) or int(time.time()))
    p.add_argument("--durability", default="sync")
    p.add_argument("--rate", type=float, default=60.0, help="messages a second of each publisher")
    p.add_argument("--keep", action="store_true", help="keep the data directory")
    p.add_argument("--quiet", action="store_true")
    return p.parse_args()


class Node(Broker):
    """A broker with a durability and a short grace for wills."""

    def __init__(self, binary, durability):
        super().__init__("nightjar", binary, "default", EXTRA)
        self.durability = durability

    def config(self):
        text = super().config()
        return f'durability = "{self.durability}"\n' + text.replace(
            "[node]\n", f'[node]\nwill_restart_grace = "{GRACE}s"\n')

    def mqtt(self):
        return self.port("tcp")


class Wills:
    """Clients whose wills the broker holds when it dies."""

    def __init__(self, history, node):
        self.history, self.node = history, node
        self.round = 0
        self.open = []
        self.delayed = None

    def connect(self, ident, client_id, delay=None, clean=True):
        topic = f"w/{client_id}"
        properties = {"will_delay": delay} if delay else None
        link = Link(self.node.mqtt(), client_id, 5, clean=clean, expiry=3600 if delay else 0,
                    will=(topic, body(ident, 80).decode(), 1, False, properties))
        self.history.wills[ident] = Will(ident, topic, self.history.now())
        return link

    def begin(self):
        self.round += 1
        for number in range(2):
            ident = f"will-dies-{self.round}-{number}"
            self.open.append((ident, self.connect(ident, f"dies-{number}")))
        ident = f"will-leaves-{self.round}"
        link = self.connect(ident, "leaves")
        link.send(wire.disconnect())
        try:
            link.packet()
        except Gone:
            pass
        will = self.history.wills[ident]
        will.end, will.ended = "disconnected", self.history.now()
        # Back before its delay is over: the will of the last round never comes.
        before = self.delayed
        ident = f"will-delayed-{self.round}"
        self.delayed = (ident, self.connect(ident, "delayed", 600, clean=False))
        if before:
            self.history.wills[before[0]].end = "resumed"

    def killed(self, at):
        for ident, _ in self.open:
            will = self.history.wills[ident]
            will.end, will.ended = "killed", at
        for will in self.history.wills.values():
            if will.end == "disconnected" and will.ready is None and at - will.ended <= 1.0:
                will.end = "unknown"
            if will.end == "disconnected":
                will.ready = at

    def ready(self):
        for ident, link in self.open:
            self.history.wills[ident].ready = self.history.now()
            link.close()
        self.open.clear()

    def finish(self):
        if self.delayed:
            self.delayed[1].close(wire.disconnect())


def read_retained(history, node):
    """What a fresh client gets, with how far the publisher was."""
    with history.lock:
        before = dict(history.retained_acked)
    link = Link(node.mqtt(), "reader", 5, clean=True, expiry=0)
    link.send(wire.subscribe(1, [("r/#", 1), (END, 1)], 5))
    found = {}
    while True:
        packet = link.packet()
        if packet.kind == wire.SUBACK:
            # Comes back behind what the subscription brings.
            link.send(wire.publish(END, b"end", 1, 1, 5))
        if packet.kind == wire.PUBLISH:
            if packet.qos:
                link.send(wire.ack(wire.PUBACK, packet.pid))
            if packet.topic == END:
                break
            # Live ones too: a retained message that is older than those is not sent any more.
            found[packet.topic] = ident_of(packet.payload) if packet.payload else None
    link.close()
    with history.lock:
        after = {topic: len(values) for topic, values in history.retained.items()}
    history.readings.append(Reading(found, before, after))


def store_is_whole(node, history):
    """Between death and restart the directory must check."""
    done = subprocess.run([node.binary, "store", "check", str(node.data_dir)], capture_output=True, text=True,
                          timeout=60, check=False, env=clean_environment())
    if done.returncode != 0:
        history.strange.append(f"store check after a kill: {done.stdout[-400:]} {done.stderr}")


def wait_for(seconds, done):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.05)
    return done()


def loop(binary, durability, kills, seed, rate, keep=False):
    """One run. What is wrong, and figures of the run."""
    dice = random.Random(seed)
    history = History()
    node = Node(binary, durability)
    figures = {"kills": 0, "seed": seed}
    clients = []
    try:
        node.start()
        port = node.mqtt
        everything = [("d/#", 2), ("w/#", 2)]
        once = [("d/#", 1), ("w/#", 1)]
        subscribers = [
            Subscriber(history, port, "sub-online-1", 4, once, "online"),
            Subscriber(history, port, "sub-online-2", 5, everything, "online"),
            Subscriber(history, port, "sub-flaky-1", 5, once, "flaky"),
            Subscriber(history, port, "sub-flaky-2", 4, everything, "flaky"),
            Subscriber(history, port, "sub-offline-1", 4, once, "offline"),
            Subscriber(history, port, "sub-offline-2", 5, everything, "offline"),
        ]
        try:
            subscribers.append(PahoSubscriber(history, port, "sub-paho", everything))
        except ImportError:
            figures["paho"] = "not installed"
        publishers = [
            Publisher(history, port, "pub-1a", 4, 1, rate),
            Publisher(history, port, "pub-1b", 5, 1, rate),
            Publisher(history, port, "pub-2a", 4, 2, rate),
            Publisher(history, port, "pub-2b", 5, 2, rate),
            RetainedPublisher(history, port, "pub-r", 5, 1, rate),
        ]
        toggler = Toggler(history, port, "toggler", 5)
        for client in subscribers:
            client.start()
            clients.append(client)
        if not wait_for(20, lambda: all(s.subscribed.is_set() for s in subscribers)):
            return ["not all subscribers got their SUBACK"], figures
        for client in [*publishers, toggler]:
            client.start()
            clients.append(client)
        wills = Wills(history, node)
        slowest = 0.0
        for number in range(kills):
            wills.begin()
            time.sleep(dice.choice((dice.uniform(0.02, 0.4), dice.uniform(0.4, 2.5))))
            if not node.alive():
                return [f"the broker ended by itself: {node.tail()}"], figures
            node.kill()
            wills.killed(history.now())
            if durability != "memory" and number % 5 == 0:
                store_is_whole(node, history)
            node.start()
            slowest = max(slowest, node.started_in)
            wills.ready()
            if number % 4 == 0:
                read_retained(history, node)
            figures["kills"] += 1
        toggler.end()
        for publisher in publishers:
            publisher.finishing.set()
        for subscriber in subscribers:
            if isinstance(subscriber, Subscriber):
                subscriber.return_now.set()
        for publisher in publishers:
            publisher.join(30)
            if publisher.is_alive():
                history.strange.append(f"{publisher.name}: {len(publisher.open)} messages are not acknowledged")
        wills.finish()
        wait_for(30 if durability != "memory" else 3, lambda: not any(history.owed(s) for s in history.subscribed))
        # What should not come has a moment to come.
        time.sleep(GRACE + 1.0)
        read_retained(history, node)
        toggler.probe()
        for client in clients:
            client.end()
        if node.panic():
            history.strange.append(node.panic())
        figures["published"] = len(history.published)
        figures["acknowledged"] = sum(1 for p in history.published.values() if p.acked)
        figures["received"] = sum(len(r) for r in history.received.values())
        figures["wills of killed clients"] = sum(1 for w in history.wills.values() if w.end == "killed")
        figures["reconnects"] = sum(getattr(c, "connection", 0) for c in clients)
        figures["files of bodies"] = len(list((node.data_dir / "store" / "bodies").glob("*.bodies")))
        figures["slowest start, s"] = round(slowest, 2)
        return history.check(GRACE + 10.0), figures
    except (Gone, BrokerError, subprocess.TimeoutExpired) as e:
        return [f"{type(e).__name__}: {e}; {node.tail()}"], figures
    finally:
        for client in clients:
            client.ending.set()
        if keep:
            node.kill()
            print(f"kept: {node.dir}")
        else:
            node.remove()


def main():
    args = parse_args()
    binary = os.path.abspath(args.bin)
    results = Results(ci=os.environ.get("CI") == "true", quiet=args.quiet)
    runs = [(args.durability, args.kills)]
    if args.durability == "sync":
        # SIGKILL takes nothing from a log that was written and not yet synced either.
        runs.append(("async", max(args.kills // 5, 1)))
    for durability, kills in runs:
        begin = time.monotonic()
        wrong, figures = loop(binary, durability, kills, args.seed, args.rate, args.keep)
        took = time.monotonic() - begin
        print(json.dumps(figures))
        name = f"kill/durability {durability}"
        if wrong:
            for line in wrong[:40]:
                print(f"      {line}")
            results.fail(name, f"{len(wrong)} violations with seed {args.seed}, the first: {wrong[0]}", took)
        else:
            results.ok(name, took)
    if figures.get("paho"):
        results.skip("kill/paho", "the Python package paho-mqtt is not installed")
    begin = time.monotonic()
    wrong, _ = loop(binary, "memory", 1, args.seed, args.rate)
    took = time.monotonic() - begin
    kinds = {line.split(":")[0] for line in wrong}
    if {"I1", "I6"} <= kinds:
        results.ok("kill/a broker that keeps nothing is found out", took)
    else:
        results.fail("kill/a broker that keeps nothing is found out", f"found only {sorted(kinds)}", took)
    return results.close("kill loop")


if __name__ == "__main__":
    sys.exit(main())
