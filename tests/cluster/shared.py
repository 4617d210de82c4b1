#!/usr/bin/env python3
"""Shared subscriptions over three nodes, by every strategy: who gets what, and that nothing is lost when a node dies.

    python3 tests/cluster/shared.py --bin target/debug/nightjar [--only WORD]
"""

import collections
import sys
import threading
import time

import run
from run import Cluster, Node

from blocking import Failed, check, until  # noqa: E402

wire = run.wire
# Messages from each node, and the topics that they are of.
EACH, TOPICS = 60, 6
# Members on each node.
MEMBERS = {1: 2, 2: 2, 3: 1}
CASES = []


def case(fn):
    CASES.append(fn)
    return fn


class Made(Node):
    """A node with a strategy."""

    strategy = "round_robin"

    def config(self):
        return super().config().replace("max_queue_len", f'shared_strategy = "{self.strategy}"\nmax_queue_len', 1)


class Sharing(Cluster):
    """Three nodes with one strategy."""

    def __init__(self, binary, strategy):  # pylint: disable=super-init-not-called
        self.binary = binary
        self.nodes = {number: Made(number, binary, self.seeds) for number in run.NODES}
        for node in self.nodes.values():
            node.strategy = strategy


class Member(threading.Thread):
    """A member with a persistent session, which comes back to the nodes it is given when its own is gone."""

    def __init__(self, cid, nodes):
        super().__init__(daemon=True)
        self.cid, self.nodes, self.got = cid, list(nodes), []
        self.ready, self.ending = threading.Event(), threading.Event()
        self.error = None

    def run(self):
        try:
            while not self.ending.is_set():
                try:
                    self.live()
                except (OSError, Failed):
                    self.nodes.append(self.nodes.pop(0))
                    time.sleep(0.2)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def live(self):
        client = run.Session(self.nodes[0].mqtt, self.cid, clean=False, properties={"session_expiry": 600})
        try:
            if not self.ready.is_set():
                check(client.subscribe("$share/team/s/#") == 1, "refused")
                self.ready.set()
            while not self.ending.is_set():
                try:
                    packet = client.packet(0.3)
                except TimeoutError:
                    continue
                if packet is None:
                    raise Failed("closed")
                check(packet.kind in (wire.PUBLISH, wire.DISCONNECT), packet)
                if packet.kind == wire.PUBLISH:
                    self.got.append(packet.payload.decode())
                    client.send(wire.ack(wire.PUBACK, packet.pid))
        finally:
            client.drop()


class Team:
    """A cluster, members on its nodes, and what they get."""

    def __init__(self, binary, strategy):
        self.cluster = Sharing(binary, strategy)
        self.members = {}

    def __enter__(self):
        try:
            self.cluster.start()
            nodes = self.cluster.nodes
            for number, count in MEMBERS.items():
                rest = [node for node in nodes.values() if node.number != number]
                for n in range(count):
                    member = Member(f"member-{number}-{n}", [nodes[number], *rest])
                    self.members[member.cid] = member
                    member.start()
            for member in self.members.values():
                check(member.ready.wait(30), f"{member.cid}: no SUBACK: {member.error}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for member in self.members.values():
            member.ending.set()
        for member in self.members.values():
            member.join(10)
        self.cluster.remove()

    def got(self):
        """Every message by who got it, as (node of its publisher, topic, number); with repeats."""
        return {cid: [tuple(text.split("|")) for text in list(member.got)] for cid, member in self.members.items()}

    def publish(self, number, cid=None, count=EACH):
        """Publishes at a node and waits for each acknowledgement; what was published."""
        cid = cid or f"publisher-{number}"
        sent = []
        with self.cluster.nodes[number].client(cid) as client:
            for n in range(count):
                topic = f"s/{n % TOPICS}"
                check(client.publish(topic, f"{cid}@{number}|{topic}|{n}".encode()) == 0, "refused")
                sent.append((f"{cid}@{number}", topic, str(n)))
        return sent

    def all_come(self, sent, repeats=False):
        """Waits until every message came; to exactly one member each, unless repeats are allowed."""
        def missing():
            have = {item for items in self.got().values() for item in items}
            return set(sent) - have
        until(lambda: not missing(), "every message comes", 40)
        for member in self.members.values():
            check(member.error is None, f"{member.cid}: {member.error}")
        if not repeats:
            count = collections.Counter(item for items in self.got().values() for item in items)
            twice = [item for item, times in count.items() if times > 1]
            check(not twice, f"came more than once: {twice[:5]}")

    def from_everywhere(self):
        sent = [item for number in run.NODES for item in self.publish(number)]
        self.all_come(sent)
        return self.got()

    def who(self, key):
        """Members by what `key` says of a message."""
        found = collections.defaultdict(set)
        for cid, items in self.got().items():
            for item in items:
                found[key(item)].add(cid)
        return found


def survives(team):
    """A node with members dies while somebody publishes: its members come back elsewhere, and nothing is lost."""
    sent, failures, stop = [], [], threading.Event()

    def work():
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                sent.extend(team.publish(1, f"steady-{turn}", 20))
            except (Failed, OSError) as error:
                # What was not acknowledged is not owed; a node may be out of its cluster for a moment.
                failures.append(error)
                time.sleep(0.2)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.5)
    team.cluster.nodes[2].kill()
    time.sleep(9)
    stop.set()
    thread.join(60)
    check(not thread.is_alive() and len(sent) > 100, f"{len(sent)} messages went; {failures[:2]}")
    team.all_come(sent, repeats=True)


@case
def in_turn(binary):
    with Team(binary, "round_robin") as team:
        counts = {cid: len(items) for cid, items in team.from_everywhere().items()}
        share = EACH * len(run.NODES) / sum(MEMBERS.values())
        check(all(abs(count - share) <= 6 for count in counts.values()), counts)
        survives(team)


@case
def by_chance(binary):
    with Team(binary, "random") as team:
        counts = {cid: len(items) for cid, items in team.from_everywhere().items()}
        check(min(counts.values()) >= 10, counts)


@case
def always_the_same(binary):
    """Each node stays with one member, until that is gone."""
    with Team(binary, "sticky") as team:
        team.from_everywhere()
        by_node = team.who(lambda item: item[0])
        check(all(len(members) == 1 for members in by_node.values()), by_node)
        survives(team)


@case
def near_the_publisher(binary):
    with Team(binary, "local") as team:
        team.from_everywhere()
        for publisher, members in team.who(lambda item: item[0]).items():
            number = publisher[-1]
            check(all(member.startswith(f"member-{number}-") for member in members), (publisher, members))


@case
def by_client_id(binary):
    """A publisher has one member, at whichever node it is."""
    with Team(binary, "hash_client_id") as team:
        sent = []
        for cid in ("a", "bb", "ccc", "dddd"):
            for number in run.NODES:
                sent += team.publish(number, cid, 20)
        team.all_come(sent)
        by_client = team.who(lambda item: item[0].partition("@")[0])
        check(all(len(members) == 1 for members in by_client.values()), by_client)


@case
def by_topic(binary):
    """A topic has one member, whoever publishes where."""
    with Team(binary, "hash_topic") as team:
        team.from_everywhere()
        by_topic_ = team.who(lambda item: item[1])
        check(len(by_topic_) == TOPICS and all(len(members) == 1 for members in by_topic_.values()), by_topic_)
        survives(team)


if __name__ == "__main__":
    sys.exit(run.each("shared", CASES, __doc__))
