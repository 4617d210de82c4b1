#!/usr/bin/env python3
"""Nodes in network namespaces, faults by seed under load, and a proof from what the clients saw.

    tests/cluster/netns/run.py [--bin target/debug/nightjar] [--nodes 3] [--rounds N] [--seed N] [--minutes M]
                               [--only WORD] [--rate R] [--record FILE] [--next BIN]

Each round strikes one node (or all) with one fault, looks whether the others serve, heals it and waits until all nodes
serve again. At the end everybody comes back and the histories must show I1 to I13 of the cluster's promises. `--minutes`
goes on so long, whatever the number of rounds: the long soak. `--record` appends what happened to a file. `--next` rolls
a newer build through the nodes instead of faults, back, and through them again.
Everything is in namespaces of the run: nothing is left behind, however it ends.
Last line: `N passed, N failed, N skipped`.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import sys
import threading
import time

import balancer
import place
from faults import FAULTS, SHORT, Round, roll, stop
from load import Anywhere, Gone, LEASE, Link, Load, Lonely, Stalls, ident_of, wire
from place import Cluster, Failed
from presence import Presence

from history import Reading
from results import Results

# Promises, in seconds.
WILL, CONNACK, SUBACK = 10.0, 6.0, 10.0
# Until all nodes serve again after a fault; no promise, but it must end.
WHOLE = 60.0
# Bytes of a node's directory after any run.
DISK = 1 << 30


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default="target/debug/nightjar")
    p.add_argument("--nodes", type=int, default=3)
    p.add_argument("--rounds", type=int, default=len(SHORT))
    p.add_argument("--minutes", type=float, default=0)
    p.add_argument("--seed", type=int, default=int(os.environ.get("NIGHTJAR_NETNS_SEED", "0")) or int(time.time()))
    p.add_argument("--rate", type=float, default=15.0, help="messages a second of each publisher")
    p.add_argument("--only", default="", help="faults whose names have one of these words: kill,restart")
    p.add_argument("--space", type=int, default=256, help="MiB of each node's file system")
    p.add_argument("--grow", action="store_true", help="instead of faults: one node, three, five, and back to three")
    p.add_argument("--next", help="instead of faults: this build, of the next protocol, rolls through the nodes")
    p.add_argument("--haproxy", action="store_true", help="clients come through HAProxy, which spreads them as it likes")
    p.add_argument("--limit", type=float, default=400, help="seconds after which the run is broken off")
    p.add_argument("--record", help="file that what happened is appended to")
    p.add_argument("--keep-logs", help="folder that the nodes' logs are copied to")
    return p.parse_args()


class Probe(threading.Thread):
    """When a node takes a client, a subscription and a message, after `begin`."""

    numbers = iter(range(1, 1 << 60))

    def __init__(self, node, begin, bound):
        super().__init__(daemon=True)
        self.node, self.begin, self.end = node, begin, begin + bound
        self.connack = self.suback = self.message = None
        self.last = "nothing"
        self.name = f"probe-{next(Probe.numbers)}"

    def run(self):
        while time.monotonic() < self.end and self.message is None:
            try:
                link = Link(self.node.mqtt(), self.name, 5, clean=True, expiry=0)
            except Gone as gone:
                self.last = str(gone)
                time.sleep(0.1)
                continue
            try:
                self.connack = self.connack or time.monotonic() - self.begin
                link.send(wire.subscribe(1, [(f"p/{self.name}", 1)], 5))
                while self.message is None and time.monotonic() < self.end:
                    packet = link.packet(1.0)
                    if packet is None:
                        continue
                    if packet.kind == wire.SUBACK:
                        self.suback = self.suback or time.monotonic() - self.begin
                        link.send(wire.publish(f"p/{self.name}", b"probe", 1, 2, 5))
                    if packet.kind == wire.PUBLISH:
                        self.message = time.monotonic() - self.begin
            except Gone as gone:
                self.last = str(gone)
            finally:
                link.close()


def read_retained(history, port):
    """What a fresh client gets of retained messages, with how far their publisher was."""
    with history.lock:
        before = dict(history.retained_acked)
    link = Link(port, "reader", 5, clean=True, expiry=0)
    link.send(wire.subscribe(1, [("r/#", 1), ("end/of/reading", 1)], 5))
    found = {}
    while True:
        packet = link.packet()
        if packet.kind == wire.SUBACK:
            link.send(wire.publish("end/of/reading", b"end", 1, 1, 5))
        if packet.kind == wire.PUBLISH:
            if packet.qos:
                link.send(wire.ack(wire.PUBACK, packet.pid))
            if packet.topic == "end/of/reading":
                break
            found[packet.topic] = ident_of(packet.payload) if packet.payload else None
    link.close()
    with history.lock:
        after = {topic: len(values) for topic, values in history.retained.items()}
    history.readings.append(Reading(found, before, after))


def read_somewhere(history, nodes, dice):
    end = time.monotonic() + 20
    while True:
        try:
            return read_retained(history, dice.choice(nodes).mqtt())
        except Gone as gone:
            if time.monotonic() > end:
                history.strange.append(f"I11: nobody reads retained messages: {gone}")
                return None
            time.sleep(0.2)


class Run:
    def __init__(self, args):
        self.args, self.dice = args, random.Random(args.seed)
        self.stalls = Stalls()
        if args.grow:
            args.nodes = 1
        self.cluster = Cluster(os.path.abspath(args.bin), args.nodes, args.space, balancer.TRUST_TCP if args.haproxy else "")
        self.load = Load(self.cluster, args.rate)
        self.presence = Presence(self.load.history, lambda name: Anywhere(self.cluster, name))
        self.rounds = []

    def faults(self):
        """Faults without end; the first are one of each kind."""
        words = self.args.only.split(",")
        able = [fault for fault in FAULTS if fault.needs <= self.args.nodes and any(word in fault.name for word in words)]
        if not able:
            raise Failed(f"no fault has a name with {self.args.only!r}")
        first = able if self.args.minutes or self.args.only else [fault for fault in able if fault.name in SHORT]
        while True:
            bag = list(first)
            self.dice.shuffle(bag)
            yield from bag
            first = able

    def strange(self, what):
        print(f"      !! {what}", flush=True)
        self.load.history.strange.append(what)

    def present(self, when, stalled):
        """Nobody is said to be gone who is back."""
        lacks = self.presence.look(list(self.cluster.nodes.values()), when, stalled)
        if lacks:
            print(f"      !! I13: {when}: {lacks}", flush=True)

    def one(self, number, fault):
        history, cluster = self.load.history, self.cluster
        leader = cluster.leader()
        victim = {True: leader, False: self.dice.choice(cluster.others(leader)),
                  None: self.dice.choice(list(cluster.nodes.values()))}[fault.leader]
        happened = Round(fault.name, victim.name, victim is leader)
        self.load.wills.begin(victim)
        lonely = Lonely(history, victim, f"lonely-{number}") if fault.lonely else None
        if lonely:
            lonely.start()
        time.sleep(self.dice.uniform(1.1, 2.5))
        for node in cluster.nodes.values():
            if not node.lives():
                raise Failed(f"{node.name} ended by itself: {node.tail()}")
        self.present(f"before {fault.name}", 0.0)
        begin = began = time.monotonic()
        out = fault.strike(cluster, victim)
        if not fault.fatal:
            # It may have taken a while, as a restart does.
            begin = time.monotonic()
        self.load.wills.struck(begin, fault.fatal)
        rest = cluster.others(*out)
        probes = [Probe(node, begin, SUBACK + 20) for node in rest]
        for probe in probes:
            probe.start()
        stay = self.dice.uniform(*fault.stay)
        time.sleep(stay)
        if rest and stay > 6:
            read_somewhere(history, rest, self.dice)
        if lonely:
            late = [at - begin for at in lonely.acks if at - begin > LEASE + 1.5]
            if late:
                self.strange(f"I11: {victim.name} acknowledged {len(late)} messages without a majority, "
                             f"the last {late[-1]:.1f} s after {fault.name}")
            lonely.ending.set()
            lonely.join(25)
        fault.heal(cluster, out)
        if fault.every:
            begin = time.monotonic()
            self.load.wills.struck(begin, True)
        happened.whole = cluster.whole(WHOLE)
        for probe in probes:
            probe.join()
        stalled = happened.stalled = self.stalls.since(begin)
        if probes:
            happened.connack = max((probe.connack or 99.0 for probe in probes), default=None)
            happened.suback = max((probe.suback or 99.0 for probe in probes), default=None)
            if fault.partial:
                good = sum((it.connack or 99) < CONNACK + stalled and (it.suback or 99) < SUBACK + stalled for it in probes)
                if good * 2 <= len(cluster.nodes):
                    said = {it.node.name: (it.connack, it.suback, it.last) for it in probes}
                    self.strange(f"I11: only {good} nodes served during {fault.name} ({victim.name}): {said}")
                probes = []
            for probe in probes:
                if (probe.connack or 99) > CONNACK + stalled:
                    self.strange(f"I11: {probe.node.name} took a client after {probe.connack} s of {fault.name} "
                                 f"({victim.name}): {probe.last}")
                elif (probe.suback or 99) > SUBACK + stalled or probe.message is None:
                    self.strange(f"I11: {probe.node.name} gave SUBACK after {probe.suback} s and a message after "
                                 f"{probe.message} s of {fault.name} ({victim.name}): {probe.last}")
        self.load.wills.over()
        self.present(f"{fault.name} ({victim.name}) is over", stalled)
        self.rounds.append(happened)
        print(f"      {number:3} at {began - history.begin:.1f} s: {fault.name}: {victim.name}"
              f"{' (leader)' if happened.led else ''}, {stay:.1f} s"
              + (f"; elsewhere CONNACK {happened.connack:.1f} s, SUBACK {happened.suback:.1f} s" if happened.connack else "")
              + f"; whole again after {happened.whole:.1f} s" + (f"; stalled {stalled:.1f} s" if stalled else ""),
              flush=True)

    def growth(self):
        """One node becomes three, then five; the leader dies, all are restarted in turn, and it shrinks to three again.
        The one that led leaves too."""
        cluster = self.cluster
        cluster.expect = None
        steps = [("grows to 2", lambda: cluster.grow(2)), ("grows to 3", lambda: cluster.grow(3)),
                 ("the leader is killed", lambda: self.one(0, next(f for f in FAULTS if f.name == "kill the leader"))),
                 ("grows to 4", lambda: cluster.grow(4)), ("grows to 5", lambda: cluster.grow(5)),
                 ("rolling restart", lambda: roll(cluster, None)),
                 ("a follower leaves", lambda: cluster.shrink(self.dice.choice(cluster.others(cluster.leader())))),
                 ("the leader leaves", lambda: cluster.shrink(cluster.leader()))]
        for name, step in steps:
            time.sleep(1.0)
            begin = time.monotonic()
            step()
            print(f"      {name}: {time.monotonic() - begin:.1f} s", flush=True)

    def upgrade(self, newer):
        """A build with the next version of the protocol and a new kind of entry rolls through the nodes, back, and through
        them again; then the version is raised, and the build before comes in nowhere."""
        cluster = self.cluster
        before, nodes = cluster.binary, list(cluster.nodes.values())

        def say(what, begin):
            print(f"      {what}: {time.monotonic() - begin:.1f} s", flush=True)

        def to(binary, what):
            begin = time.monotonic()
            for node in nodes:
                stop(cluster, node)
                node.binary = binary
                node.begin()
                cluster.whole(WHOLE)
                # Builds of both kinds serve together, and nobody writes what one of them could not read.
                for other in nodes:
                    expect(other.status().get("protocol") == 1, f"{other.name} uses another version during {what}")
                    if other.binary == newer:
                        refused(other, ["cluster", "mark"], "needs version 2")
                time.sleep(1.0)
            say(what, begin)

        def expect(holds, what):
            if not holds:
                raise Failed(what)

        def refused(node, words, why):
            code, said = node.ctl(*words)
            expect(code != 0 and why in said, f"{node.name}: {words} should be refused because of {why!r}: {said}")

        to(newer, "the next build")
        to(before, "back to the build before")
        refused(nodes[0], ["--yes", "cluster", "upgrade"], "speaks no newer one")
        begin = time.monotonic()
        self.one(1, next(f for f in FAULTS if f.name == "kill and start at once"))
        to(newer, "the next build again")
        code, said = nodes[1].ctl("--yes", "cluster", "upgrade")
        expect(code == 0 and json.loads(said)["protocol"] == 2, f"the version is not raised: {said}")
        code, said = nodes[2].ctl("cluster", "mark")
        expect(code == 0, f"no entry of the new kind: {said}")
        end = time.monotonic() + 20
        while not all((it.get("protocol"), it.get("marks")) == (2, 1) for it in (node.status() for node in nodes)):
            expect(time.monotonic() < end, "not all nodes applied the new entry")
            time.sleep(0.1)
        begin = time.monotonic()
        victim = self.dice.choice(nodes)
        stop(cluster, victim)
        victim.binary = before
        victim.begin()
        expect(victim.process.wait(30) != 0, "the build before opens a directory of the next version")
        expect("uses version 2 of the protocol" in victim.tail(40), f"it does not say why: {victim.tail()}")
        # With an empty directory it is a stranger, and told so on both sides.
        stranger = cluster.add(4)
        stranger.binary = before
        stranger.begin()
        end = time.monotonic() + 30
        others = [node for node in nodes if node is not victim]
        while not ("this node needs a newer build" in stranger.tail(40)
                   and any("the other node needs a newer build" in node.tail(200) for node in others)):
            expect(time.monotonic() < end, f"the build before is not told why: {stranger.tail()}")
            time.sleep(0.2)
        del cluster.nodes[4]
        stranger.remove()
        say("the build before is refused", begin)
        victim.binary = newer
        victim.begin()
        cluster.whole(WHOLE)
        begin = time.monotonic()
        self.one(2, next(f for f in FAULTS if f.name == "kill all"))
        for node in nodes:
            expect(node.status().get("protocol") == 2, f"{node.name} forgot the version")
        say("all killed with the next build", begin)

    def ending(self):
        """Everybody back, and what nodes must show then."""
        history, cluster = self.load.history, self.cluster
        self.load.finish(60)
        self.present("at the end", 0.0)
        self.presence.end()
        for node in cluster.nodes.values():
            read_somewhere(history, [node], self.dice)
        self.load.toggler.probe()
        self.load.end()
        for client in self.load.clients:
            client.join(25)
        end = time.monotonic() + 20
        while True:
            have = cluster.digests()
            if len(have) == len(cluster.nodes) and all(len(digests) == 1 for digests in have.values()):
                break
            if time.monotonic() > end:
                self.strange(f"I10: nodes know other routes than their owners: {have}")
                break
            time.sleep(0.5)
        for node in cluster.nodes.values():
            if node.used() > DISK:
                self.strange(f"I12: {node.name} uses {node.used()} bytes")
            for line in [*node.panics()[:3], *node.repeats()[:3]]:
                self.strange(f"{node.name}: {line}")

    def go(self):
        begin = time.monotonic()
        wrong = []
        try:
            self.stalls.start()
            self.cluster.start()
            print(f"      seed {self.args.seed}: {self.args.nodes} nodes formed in {time.monotonic() - begin:.1f} s", flush=True)
            if self.args.haproxy:
                self.cluster.front = balancer.Balancer(self.cluster.nodes.values())
            self.load.start()
            self.presence.start()
            if self.args.grow:
                self.growth()
            if self.args.next:
                self.upgrade(os.path.abspath(self.args.next))
            until = begin + self.args.minutes * 60
            for number, fault in enumerate(() if self.args.grow or self.args.next else self.faults(), 1):
                if self.args.minutes and time.monotonic() > until or not self.args.minutes and number > self.args.rounds:
                    break
                self.one(number, fault)
            self.ending()
        except (Failed, Gone, OSError) as error:
            wrong.append(f"{type(error).__name__}: {error}")
        finally:
            self.load.end()
            self.presence.end()
            bound = WILL + self.stalls.since(begin)
            if wrong:
                # It broke off: nobody was given the time to get what is owed.
                wrong += [line for line in self.load.check(1e9) if not line.startswith(("I1:", "I6:", "I8:", "I9:"))]
            else:
                wrong += self.load.check(min(bound, 2 * WILL))
            self.figures = {"seed": self.args.seed, "nodes": self.args.nodes, "rounds": len(self.rounds),
                            "minutes": round((time.monotonic() - begin) / 60, 1), **self.load.figures(),
                            "looked who is there": self.presence.looks,
                            "disk, MiB": [node.used() >> 20 for node in self.cluster.nodes.values()],
                            "stalled, s": round(self.stalls.since(begin), 1)}
            if self.args.keep_logs:
                for node in self.cluster.nodes.values():
                    to = pathlib.Path(self.args.keep_logs)
                    to.mkdir(parents=True, exist_ok=True)
                    (to / f"{node.name}.log").write_bytes((node.dir / "stderr.log").read_bytes())
            if self.cluster.front:
                self.cluster.front.remove()
            self.cluster.remove()
        return wrong


def main():
    args = parse_args()
    results = Results(ci=os.environ.get("CI") == "true")
    name = ("netns/growing and shrinking" if args.grow else "netns/rolling upgrade" if args.next else "netns/behind HAProxy without stickiness" if args.haproxy
            else f"netns/{args.nodes} nodes")
    if not os.environ.get(place.INSIDE):
        why = place.missing() or (args.haproxy and not balancer.installed() and "haproxy is not installed")
        if why:
            results.skip(name, why)
            return results.close("netns")
    place.enter()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    begin = time.monotonic()

    def break_off():
        print(f"FAIL  {name}: not over after {args.limit:g} s\n0 passed, 1 failed, 0 skipped", flush=True)
        os._exit(1)

    watchdog = threading.Timer(args.limit + args.minutes * 60, break_off)
    watchdog.daemon = True
    watchdog.start()
    run = Run(args)
    wrong = run.go()
    print(json.dumps(run.figures))
    if args.record:
        faults = {}
        for happened in run.rounds:
            faults[happened.name] = faults.get(happened.name, 0) + 1
        with open(args.record, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC {json.dumps(run.figures)}\n  faults: {json.dumps(faults)}\n"
                       f"  violations: {len(wrong) or 'none'}\n" + "".join(f"    {line}\n" for line in wrong[:20]))
    if wrong:
        for line in wrong[:40]:
            print(f"      {line}")
        results.fail(name, f"{len(wrong)} violations with seed {args.seed}, the first: {wrong[0]}", time.monotonic() - begin)
    else:
        results.ok(name, time.monotonic() - begin)
    return results.close("netns")


if __name__ == "__main__":
    sys.exit(main())
