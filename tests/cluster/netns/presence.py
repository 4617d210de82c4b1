"""Clients that say retained whether they are there, and leave a will that says they are not. A will that is published
late, by the node that leads after a fault, must not stand behind what its client said since it was back."""

import itertools
import threading
import time

from load import Client, Gone, Link, wire

# Seconds until everybody is back at a node that serves.
BACK = 20.0


class Present(Client):
    """Says retained at each connect that it is there, under a new number. `restless`: its connections break by
    themselves too."""

    def __init__(self, history, port, name, v, restless, still):
        super().__init__(history, port, name, v)
        self.topic, self.restless, self.still = f"presence/{name}", restless, still
        self.number = 0
        # What is acknowledged of the connection that there is.
        self.word = None

    def live(self):
        link = Link(self.port(), self.name, self.v, clean=True, expiry=0, will=(self.topic, "offline", 1, True))
        self.connection += 1
        self.number += 1
        word = f"online {self.number}"
        leave = time.monotonic() + (self.dice.uniform(1, 6) if self.restless else 1e9)
        try:
            link.send(wire.publish(self.topic, word.encode(), 1, 1, self.v, retain=True))
            while not self.ending.is_set():
                packet = link.packet(0.1)
                if packet is not None and packet.kind == wire.PUBACK:
                    if packet.rc >= 0x80:
                        raise Gone(f"{packet}")
                    self.word = word
                if time.monotonic() > leave and self.word and not self.still.is_set():
                    return
        finally:
            self.word = None
            # Without a DISCONNECT: the will is due.
            link.close()


class Presence:
    """Six of them, and what each node says of them."""

    readers = itertools.count(1)

    def __init__(self, history, anywhere):
        self.history, self.still = history, threading.Event()
        names = [f"present-{n}" for n in range(1, 7)]
        self.clients = [Present(history, anywhere(name), name, 4 + number % 2, number >= 3, self.still)
                        for number, name in enumerate(names)]
        self.looks = 0

    def start(self):
        for client in self.clients:
            client.start()

    def end(self):
        for client in self.clients:
            client.ending.set()

    def words(self):
        return {client.topic: client.word for client in self.clients}

    def read(self, node):
        """What a fresh client of this node gets."""
        number = next(Presence.readers)
        over = f"end/of/presence/{number}"
        link = Link(node.mqtt(), f"presence-reader-{number}", 5, clean=True, expiry=0)
        try:
            link.send(wire.subscribe(1, [("presence/+", 1), (over, 1)], 5))
            found = {}
            while True:
                packet = link.packet()
                if packet.kind == wire.SUBACK:
                    link.send(wire.publish(over, b"end", 1, 1, 5))
                if packet.kind == wire.PUBLISH:
                    link.send(wire.ack(wire.PUBACK, packet.pid))
                    if packet.topic == over:
                        return found
                    found[packet.topic] = packet.payload.decode(errors="replace")
        finally:
            link.close()

    def lacks(self, nodes):
        """What is not as it should be; "" if every node shows the last word of everybody."""
        for node in nodes:
            before = self.words()
            away = [topic for topic, word in before.items() if word is None]
            if away:
                return f"not back: {', '.join(away)}"
            try:
                found = self.read(node)
            except Gone as gone:
                return f"{node.name} is not read: {gone}"
            after = self.words()
            wrong = [f"{found.get(topic)!r} for {topic}, which said {word!r}" for topic, word in before.items()
                     # A connection that ended meanwhile may have its will published, or a successor that spoke.
                     if word == after[topic] and found.get(topic) != word]
            if wrong:
                return f"{node.name} shows {'; '.join(wrong)}"
        return ""

    def look(self, nodes, when, stalled=0.0):
        """All nodes serve: each must show the last acknowledged word of everybody."""
        end = time.monotonic() + BACK + stalled
        self.still.set()
        try:
            while lacks := self.lacks(nodes):
                if time.monotonic() > end:
                    self.history.strange.append(f"I13: {when}: {lacks}")
                    return lacks
                time.sleep(0.3)
            self.looks += 1
            return ""
        finally:
            self.still.clear()
