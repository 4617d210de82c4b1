"""What the clients did and saw, and what must hold of it whatever the broker went through.

Every operation has a begin and, if it was answered, an end. An operation without an answer may or may not have
happened ("maybe"). The invariants are those of Nightjar's durability: I1 nothing acknowledged is lost, I2 QoS 2 exactly
once for each session, I3 nothing is invented, I4 order for each publisher, topic and QoS, repeats only with DUP or
after a reconnect, I5 retained messages, I6 sessions and subscriptions, I8 wills.
"""

import threading
import time
import zlib
from collections import defaultdict
from dataclasses import dataclass, field


def body(ident, size):
    """A payload that names itself and carries a checksum, `size` bytes or a little more."""
    text = f"{ident}|{'.' * max(0, size - len(ident) - 10)}|"
    return f"{text}{zlib.crc32(text.encode()):08x}".encode()


def ident_of(payload):
    """The name in a payload, None if the payload is not whole."""
    text, _, crc = payload.rpartition(b"|")
    if crc != f"{zlib.crc32(text + b'|'):08x}".encode():
        return None
    return text.split(b"|")[0].decode()


@dataclass
class Publish:
    """One PUBLISH as its publisher meant it."""
    ident: str
    publisher: str
    number: int
    topic: str
    qos: int
    begin: float
    acked: float | None = None
    # How often its publisher sent it: each may come to a subscriber with QoS 1.
    sends: int = 0
    # The node that it was sent to, where there are several.
    where: str | None = None


@dataclass
class Receipt:
    """One message that a session's client handed to its application."""
    ident: str | None
    topic: str
    qos: int
    dup: bool
    connection: int
    at: float


@dataclass
class Will:
    """A will that the broker accepted at `opened`."""
    ident: str
    topic: str
    opened: float
    # None while connected; "disconnected", "killed", "resumed" (the session came back within its delay) or "unknown".
    end: str | None = None
    ended: float | None = None
    # When a broker that is to publish it was ready again.
    ready: float | None = None


@dataclass
class Subscription:
    """A subscription of a persistent session, acknowledged at `since`."""
    topic_filter: str
    qos: int
    since: float


@dataclass
class Reading:
    """What a fresh client got of retained topics, by topic; and how far their publisher was, before and after."""
    found: dict
    acked_before: dict
    tried_after: dict


def matches(topic_filter, topic):
    """Topic filters as they are used here: levels, `+`, and `#` at the end."""
    f, t = topic_filter.split("/"), topic.split("/")
    for i, level in enumerate(f):
        if level == "#":
            return True
        if i >= len(t) or level not in ("+", t[i]):
            return False
    return len(f) == len(t)


@dataclass
class History:
    """Everything that happened. Lists are appended to by client threads."""
    published: dict = field(default_factory=dict)
    received: dict = field(default_factory=lambda: defaultdict(list))
    subscribed: dict = field(default_factory=lambda: defaultdict(list))
    lost_sessions: list = field(default_factory=list)
    wills: dict = field(default_factory=dict)
    # topic -> values in the order of their publisher: (ident or None for a delete)
    retained: dict = field(default_factory=lambda: defaultdict(list))
    # topic -> how many of those were acknowledged
    retained_acked: dict = field(default_factory=lambda: defaultdict(int))
    readings: list = field(default_factory=list)
    # (session, filter) -> True, False, or None for unknown; and which of them a probe reached at the end
    toggled: dict = field(default_factory=dict)
    probed: set | None = None
    strange: list = field(default_factory=list)
    # When connections ended, by name.
    ended: dict = field(default_factory=dict)
    # Topics of shared subscriptions: what one member gave back another one gets later.
    unordered: set = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    # When the run began.
    begin: float = field(default_factory=time.monotonic)

    def now(self):
        return time.monotonic()

    # ---- what clients say ----

    def publishing(self, ident, publisher, number, topic, qos):
        self.published[ident] = Publish(ident, publisher, number, topic, qos, self.now())

    def sending(self, ident):
        if ident in self.published:
            self.published[ident].sends += 1

    def acknowledged(self, ident):
        self.published[ident].acked = self.now()

    def receipt(self, session, packet_topic, payload, qos, dup, connection):
        self.received[session].append(Receipt(ident_of(payload), packet_topic, qos, dup, connection, self.now()))

    def subscription(self, session, topic_filter, qos):
        self.subscribed[session].append(Subscription(topic_filter, qos, self.now()))

    def session_lost(self, session):
        self.lost_sessions.append((session, self.now()))

    # ---- what is still to come ----

    def owed(self, session):
        """Acknowledged messages and wills of killed clients that this session has not got."""
        have = {r.ident for r in self.received[session]}
        subs = self.subscribed[session]

        def wanted(topic, begin):
            return any(s.since <= begin and matches(s.topic_filter, topic) for s in subs)

        missing = [p.ident for p in list(self.published.values())
                   if p.acked and p.ident not in have and wanted(p.topic, p.begin)]
        missing += [w.ident for w in list(self.wills.values())
                    if w.end == "killed" and w.ident not in have and wanted(w.topic, w.opened)]
        return missing

    def when(self, ident):
        """When a message was published and acknowledged, on the clock of the run's faults."""
        p = self.published[ident]
        where = f" by {p.where}" if p.where else ""
        return f" ({p.begin - self.begin:.2f} s, {(p.acked or p.begin) - self.begin:.2f} s{where})"

    # ---- the invariants ----

    def check(self, will_bound=11.0):
        """Everything that is wrong, in words."""
        found = []
        for session in self.subscribed:
            found += self._delivered(session)
            found += self._order(session)
        found += [f"I6: session {session} was gone at a reconnect" for session, _ in self.lost_sessions]
        found += self._retained()
        found += self._subscriptions()
        found += self._wills(will_bound)
        return found + self.strange

    def _delivered(self, session):
        wrong = [f"I1: {session} never got {ident}, which was acknowledged{self.when(ident)}"
                 for ident in self.owed(session) if ident in self.published]
        granted = {s.qos for s in self.subscribed[session]}
        times = defaultdict(int)
        for r in self.received[session]:
            if r.ident is None:
                wrong.append(f"I3: {session} got a payload on {r.topic} that nobody wrote")
                continue
            known = self.published.get(r.ident) or self.wills.get(r.ident)
            if known is None or known.topic != r.topic:
                wrong.append(f"I3: {session} got {r.ident} on {r.topic}, which nobody published there")
                continue
            times[r.ident] += 1
        if granted == {2}:
            for ident, count in times.items():
                if count > 1 and ident in self.published and self.published[ident].qos == 2:
                    wrong.append(f"I2: {session} got {ident} {count} times with QoS 2")
        return wrong

    def _order(self, session):
        wrong = []
        last = defaultdict(lambda: -1)
        # The connection of the last receipt of each, and how many repeats there were in it.
        seen, same = {}, defaultdict(int)
        for r in self.received[session]:
            p = self.published.get(r.ident)
            if p is None or p.topic in self.unordered:
                continue
            if r.ident in seen:
                same[r.ident] = same[r.ident] + 1 if seen[r.ident] == r.connection else 0
                if not r.dup and same[r.ident] >= max(p.sends, 1):
                    wrong.append(f"I4: {session} got {r.ident} again in one connection without DUP")
            else:
                key = (p.publisher, p.topic, r.qos)
                if p.number < last[key]:
                    wrong.append(f"I4: {session} got {r.ident} behind number {last[key]} of {p.publisher}")
                last[key] = max(last[key], p.number)
            seen[r.ident] = r.connection
        return wrong

    def _retained(self):
        wrong = []
        for number, reading in enumerate(self.readings):
            for topic in set(self.retained) | set(reading.found):
                acked, tried = reading.acked_before.get(topic, 0), reading.tried_after.get(topic, 0)
                allowed = set(self.retained[topic][max(acked - 1, 0):tried])
                if acked == 0:
                    allowed.add(None)
                have = reading.found.get(topic)
                if have not in allowed:
                    wrong.append(f"I5: reading {number} of {topic} gave {have}, allowed were {sorted(map(str, allowed))}")
        return wrong

    def _subscriptions(self):
        if self.probed is None:
            return []
        wrong = []
        for key, state in self.toggled.items():
            if state is True and key not in self.probed:
                wrong.append(f"I6: {key[0]} had subscribed to {key[1]}, but a message did not come")
            if state is False and key in self.probed:
                wrong.append(f"I6: {key[0]} had unsubscribed from {key[1]}, but a message came")
        return wrong

    def _wills(self, bound):
        wrong = []
        arrived = defaultdict(dict)
        for session, receipts in self.received.items():
            for r in receipts:
                if r.ident in self.wills:
                    arrived[r.ident].setdefault(session, r.at)
        for will in self.wills.values():
            sessions = [s for s, subs in self.subscribed.items()
                        if any(x.since <= will.opened and matches(x.topic_filter, will.topic) for x in subs)]
            if will.end == "killed":
                missing = [s for s in sessions if s not in arrived[will.ident]]
                if missing:
                    wrong.append(f"I8: the will {will.ident} of a killed client never reached {missing}")
                times = arrived[will.ident].values()
                if times and will.ready and min(times) - will.ready > bound:
                    late = min(times) - will.ready
                    wrong.append(f"I8: the will {will.ident} came {late:.1f} s after the broker was ready")
            elif will.end in ("disconnected", "resumed") and arrived[will.ident]:
                wrong.append(f"I8: the will {will.ident} was published although its client had {will.end}")
        return wrong
