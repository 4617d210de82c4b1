"""Clients of the fault runs beside those of the kill loop, and what their histories must show."""

import itertools
import pathlib
import random
import sys
import threading
import time
from collections import defaultdict

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "outside" / "kill"))
sys.path.insert(0, str(HERE.parent.parent / "outside"))

import kill_clients  # noqa: E402
import wire  # noqa: E402
from history import History, Will, body, ident_of  # noqa: E402
from kill_clients import Client, Gone, Link, Publisher, RetainedPublisher, Subscriber, Toggler  # noqa: E402

# A paused node takes connections and says nothing.
kill_clients.CONNACK = 4.0
Client.PAUSE = 0.2
# A node's lease and what it may take to see that it is over.
LEASE = 5.0


class Stalls(threading.Thread):
    """How long the machine itself stood still: bounds of time are extended by that."""

    STEP = 0.05

    def __init__(self):
        super().__init__(daemon=True)
        self.found, self.ending = [], threading.Event()

    def run(self):
        last = time.monotonic()
        while not self.ending.is_set():
            time.sleep(self.STEP)
            now = time.monotonic()
            if now - last > 4 * self.STEP:
                self.found.append((now, now - last - self.STEP))
            last = now

    def since(self, begin):
        return sum(took for at, took in self.found if at >= begin)


class Anywhere:
    """Where a client connects: any node, each client by its own dice."""

    def __init__(self, cluster, name, only=None):
        self.cluster, self.only, self.dice = cluster, only, random.Random(f"where {name}")

    def __call__(self):
        if self.cluster.front:
            return self.cluster.front.mqtt()
        nodes = [node for node in list(self.cluster.nodes.values()) if not self.only or node.number in self.only]
        return self.dice.choice(nodes).mqtt()


class ToTopic(Publisher):
    """Publishes on one topic."""

    def __init__(self, history, port, name, v, qos, rate, topic):
        super().__init__(history, port, name, v, qos, rate)
        self.topic = topic

    def next(self):
        self.number += 1
        ident = f"{self.name}-{self.number}"
        self.history.publishing(ident, self.name, self.number, self.topic, self.qos)
        return ident, self.topic, body(ident, 60), False


class Lonely(ToTopic):
    """A publisher of one node that goes nowhere else; knows when it was acknowledged."""

    WINDOW = 4

    def __init__(self, history, node, name):
        super().__init__(history, node.mqtt, name, 5, 1, 20, "d/lonely")
        self.acks = []

    def done(self, ident):
        super().done(ident)
        self.acks.append(time.monotonic())


class Rival(Client):
    """One of several who claim one client id, each for a moment. Every connection publishes under its own name."""

    numbers = itertools.count(1)
    # Seconds between two publishes: a soak of hours stays below the queue limits of who is offline all the time.
    PAUSE = 1 / 30

    def __init__(self, history, port, name, cid):
        super().__init__(history, port, name, 5)
        self.cid = cid

    def live(self):
        link = Link(self.port(), self.cid, 5, clean=True, expiry=0)
        self.connection = next(Rival.numbers)
        where = link.address[0]
        until = time.monotonic() + self.dice.uniform(0.2, 2.0)
        number, free, due = 0, 4, 0.0
        try:
            while time.monotonic() < until and not self.ending.is_set():
                if free and time.monotonic() >= due:
                    number, free, due = number + 1, free - 1, time.monotonic() + self.PAUSE
                    ident = f"{self.cid}@{self.connection}-{number}"
                    self.history.publishing(ident, f"{self.cid}@{self.connection}", number, f"i/{self.cid}", 1)
                    self.history.sending(ident)
                    self.history.published[ident].where = where
                    link.send(wire.publish(f"i/{self.cid}", body(ident, 40), 1, number, 5))
                packet = link.packet(0.02)
                if packet is not None and packet.kind == wire.PUBACK:
                    if packet.rc >= 0x80:
                        raise Gone(f"{packet}")
                    ident = f"{self.cid}@{self.connection}-{packet.pid}"
                    if packet.rc:
                        # There are subscriptions to all of these topics.
                        self.history.strange.append(f"I1: {ident} was acknowledged with {packet.rc:#x}")
                    self.history.acknowledged(ident)
                    free += 1
        finally:
            self.history.ended[f"{self.cid}@{self.connection}"] = self.history.now()
            link.close(wire.disconnect() if self.dice.random() < 0.3 else b"")
        self.ending.wait(self.dice.uniform(0, 0.5))


def interleaved(history):
    """I7: while a later connection of a client id lives, the one before is heard of no more. When the later one has ended
    too and left no session, the cluster remembers neither."""
    wrong = []
    for session, receipts in history.received.items():
        current, over, seen = {}, defaultdict(set), set()
        for receipt in receipts:
            if not receipt.topic.startswith("i/") or receipt.ident is None or receipt.ident in seen:
                continue
            seen.add(receipt.ident)
            owner = receipt.ident.rpartition("-")[0]
            have = current.get(receipt.topic)
            if owner != have:
                if owner in over[receipt.topic] and receipt.at < history.ended.get(have, receipt.at + 1):
                    wrong.append(f"I7: {session} heard {receipt.ident} behind {have}")
                over[receipt.topic].add(have)
                current[receipt.topic] = owner
    return wrong


def unshared(history, members, topic):
    """I9: each acknowledged message of a shared subscription came to at least one member."""
    got = {receipt.ident for name in members for receipt in history.received[name]}
    return [f"I9: no member got {p.ident}{history.when(p.ident)}" for p in list(history.published.values())
            if p.topic == topic and p.acked and p.ident not in got]


class Wills:
    """Clients of one node whose wills the cluster holds when it fails."""

    def __init__(self, history, anywhere):
        self.history, self.anywhere = history, anywhere
        self.round, self.open, self.delayed = 0, [], None

    def connect(self, port, ident, client_id, delay=None, clean=True):
        topic = f"w/{client_id}"
        properties = {"will_delay": delay} if delay else None
        end = time.monotonic() + 20
        while True:
            try:
                link = Link(port(), client_id, 5, clean=clean, expiry=3600 if delay else 0,
                            will=(topic, body(ident, 80).decode(), 1, False, properties))
                break
            except Gone:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        self.history.wills[ident] = Will(ident, topic, self.history.now())
        return link

    def begin(self, node):
        self.round += 1
        for number in range(2):
            ident = f"will-dies-{self.round}-{number}"
            self.open.append((ident, self.connect(node.mqtt, ident, f"dies-{self.round}-{number}")))
        ident = f"will-leaves-{self.round}"
        link = self.connect(node.mqtt, ident, f"leaves-{self.round}")
        link.send(wire.disconnect())
        try:
            link.packet(10)
            will = self.history.wills[ident]
            will.end, will.ended = "unknown", self.history.now()
        except Gone:
            # Closed by the node: DISCONNECT was read.
            will = self.history.wills[ident]
            will.end, will.ended = "disconnected", self.history.now()
        # Back before its delay is over: the will of the last round never comes.
        before = self.delayed
        ident = f"will-delayed-{self.round}"
        self.delayed = (ident, self.connect(self.anywhere, ident, "delayed", 3600, clean=False))
        if before:
            self.history.wills[before[0]].end = "resumed"

    def struck(self, at, fatal):
        """The fault came at `at`; `fatal`: the node is out for longer than its lease."""
        for ident, _ in self.open:
            self.history.wills[ident].end = "killed" if fatal else "unknown"
            self.history.wills[ident].ended = at
            self.history.wills[ident].ready = at
        for will in self.history.wills.values():
            if will.end == "disconnected" and will.ended > at - 1.0:
                will.end = "unknown"

    def over(self):
        for _, link in self.open:
            link.close()
        self.open.clear()

    def finish(self):
        if self.delayed:
            self.delayed[1].close(wire.disconnect())


class Load:
    """All clients of a run."""

    def __init__(self, cluster, rate):
        self.cluster, self.history = cluster, History()
        h, at = self.history, lambda name, only=None: Anywhere(cluster, name, only)
        everything = [("d/#", 2), ("w/#", 2), ("i/#", 2)]
        once = [("d/#", 1), ("w/#", 1), ("i/#", 1)]
        sub = [("sub-online-1", 4, once, "online"), ("sub-online-2", 5, everything, "online"),
               ("sub-flaky-1", 5, once, "flaky"), ("sub-flaky-2", 4, everything, "flaky"),
               ("sub-offline-1", 4, once, "offline"), ("sub-offline-2", 5, everything, "offline")]
        self.subscribers = [Subscriber(h, at(n), n, v, f, habit) for n, v, f, habit in sub]
        self.members = [Subscriber(h, at(f"member-{n}"), f"member-{n}", 5, [("$share/team/s/#", 1)],
                                   "flaky" if n == 3 else "online") for n in (1, 2, 3)]
        pub = [("pub-1a", 4, 1), ("pub-1b", 5, 1), ("pub-2a", 4, 2), ("pub-2b", 5, 2)]
        self.publishers = [Publisher(h, at(n), n, v, qos, rate) for n, v, qos in pub]
        self.publishers.append(RetainedPublisher(h, at("pub-r"), "pub-r", 5, 1, rate))
        self.publishers.append(ToTopic(h, at("pub-s"), "pub-s", 5, 1, rate, "s/work"))
        h.unordered.add("s/work")
        self.toggler = Toggler(h, at("toggler"), "toggler", 5)
        self.rivals = [Rival(h, at(f"rival-{n}"), f"rival-{n}", "rival") for n in (1, 2, 3)]
        self.wills = Wills(h, at("wills"))
        self.clients = []

    def start(self):
        subscribers = [*self.subscribers, *self.members]
        self.clients = [*subscribers, *self.publishers, self.toggler, *self.rivals]
        for client in subscribers:
            client.start()
        end = time.monotonic() + 30
        while not all(client.subscribed.is_set() for client in subscribers):
            if time.monotonic() > end:
                raise Gone("not all subscribers got their SUBACK")
            time.sleep(0.05)
        for client in [*self.publishers, self.toggler, *self.rivals]:
            client.start()

    def finish(self, patience):
        """Stops what publishes, brings everybody back and waits for what they are owed."""
        for client in [*self.rivals, self.toggler]:
            client.end()
        for publisher in self.publishers:
            publisher.finishing.set()
        for subscriber in [*self.subscribers, *self.members]:
            subscriber.return_now.set()
        for publisher in self.publishers:
            publisher.join(patience)
            if publisher.is_alive():
                self.history.strange.append(f"{publisher.name}: {len(publisher.open)} messages are not acknowledged")
        self.wills.finish()
        names = [client.name for client in self.members]
        # After hours a lot is owed: it may take as long as it goes on coming.
        have, end = -1, 0.0
        while have != (now := self.received()) or time.monotonic() < end:
            if have != now:
                have, end = now, time.monotonic() + patience
            begin = time.monotonic()
            if not any(self.history.owed(s) for s in self.history.subscribed) and not unshared(
                    self.history, names, "s/work"):
                break
            # Looking takes time from those who receive.
            time.sleep(max(0.3, 5 * (time.monotonic() - begin)))
        # What should not come has a moment to come.
        time.sleep(2.0)

    def received(self):
        return sum(len(receipts) for receipts in list(self.history.received.values()))

    def end(self):
        for client in self.clients:
            client.ending.set()

    def check(self, will_bound):
        wrong = self.history.check(will_bound)
        wrong += interleaved(self.history)
        wrong += unshared(self.history, [client.name for client in self.members], "s/work")
        return wrong

    def figures(self):
        h = self.history
        return {
            "published": len(h.published),
            "acknowledged": sum(1 for p in h.published.values() if p.acked),
            "received": self.received(),
            "wills of killed clients": sum(1 for w in h.wills.values() if w.end == "killed"),
            "retained readings": len(h.readings),
            "takeovers": next(Rival.numbers) - 1,
            "reconnects": sum(getattr(c, "connection", 0) for c in self.clients if not isinstance(c, Rival)),
        }


__all__ = ["Anywhere", "Client", "Gone", "History", "LEASE", "Link", "Load", "Lonely", "Stalls", "ident_of", "wire"]
