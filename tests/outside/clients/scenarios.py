"""What every outside client does with the broker, over each transport and in each version it knows."""

from .base import Failed, Will, expect

SCENARIOS = []


def scenario(versions=(3, 4, 5)):
    def register(fn):
        SCENARIOS.append((fn.__name__, fn, versions))
        return fn

    return register


@scenario()
def each_qos(t):
    """QoS 0, 1 and 2 to a subscriber of each."""
    pub = t.client("pub")
    for granted in (0, 1, 2):
        sub = t.client(f"sub{granted}")
        sub.subscribe(t.topic(f"g{granted}/+"), granted)
        for qos in (0, 1, 2):
            pub.publish(t.topic(f"g{granted}/{qos}"), f"\u2713 {qos} to {granted}", qos)
            expect(sub, t.topic(f"g{granted}/{qos}"), f"\u2713 {qos} to {granted}", min(qos, granted))
        sub.disconnect()
    pub.disconnect()


@scenario()
def retained(t):
    """Kept for a later subscriber, flagged, replaced, deleted by an empty payload."""
    pub = t.client("pub")
    pub.publish(t.topic(), "old", 1, retain=True)
    pub.publish(t.topic(), "new", 1, retain=True)
    sub = t.client("sub")
    sub.subscribe(t.topic(), 1)
    expect(sub, t.topic(), "new", 1, retain=True)
    pub.publish(t.topic(), "", 1, retain=True)
    expect(sub, t.topic(), "", 1, retain=False)
    late = t.client("late")
    late.subscribe(t.topic("+"), 1)
    pub.publish(t.topic("end"), "end", 1)
    expect(late, t.topic("end"), "end", 1)


@scenario()
def will(t):
    """Published when the client vanishes, not when it says goodbye."""
    watcher = t.client("watcher")
    watcher.subscribe(t.topic("will/+"), 1)
    if t.kind.discards_will(t.version):
        polite = t.client("polite", will=Will(t.topic("will/polite"), "never", 1))
        polite.disconnect()
    gone = t.client("gone", will=Will(t.topic("will/gone"), "gone", 1, retain=True))
    gone.kill()
    expect(watcher, t.topic("will/gone"), "gone", 1, retain=False)
    late = t.client("late")
    late.subscribe(t.topic("will/gone"), 1)
    expect(late, t.topic("will/gone"), "gone", 1, retain=True)
    late.publish(t.topic("will/gone"), "", 0, retain=True)


@scenario()
def session_resume(t):
    """An absent client's messages wait for it, after a goodbye and after a lost connection."""
    pub = t.client("pub")
    sub = t.client("sub", clean=False, expiry=300, present=False)
    sub.subscribe(t.topic("#"), 2)
    for how in ("goodbye", "lost"):
        if how == "goodbye":
            sub.disconnect()
        else:
            sub.kill()
        for qos in (1, 2):
            pub.publish(t.topic(f"{how}/{qos}"), f"{how} {qos}", qos)
        sub = t.client("sub", clean=False, expiry=300, present=True)
        for qos in (1, 2):
            expect(sub, t.topic(f"{how}/{qos}"), f"{how} {qos}", qos)
    sub.disconnect()
    # The session is not left behind.
    t.client("sub", clean=True).disconnect()


@scenario()
def shared(t):
    """Two members of a group share what is published; each message goes to one of them."""
    members = [t.client("one"), t.client("two")]
    for member in members:
        member.subscribe(f"$share/group/{t.topic('job/+')}", 1)
    every = t.client("every")
    every.subscribe(t.topic("job/+"), 1)
    pub = t.client("pub")
    for i in range(10):
        pub.publish(t.topic(f"job/{i}"), str(i), 1)
    for i in range(10):
        expect(every, t.topic(f"job/{i}"), str(i), 1)
    got = [[member.receive().payload for _ in range(5)] for member in members]
    if sorted(int(p) for g in got for p in g) != list(range(10)):
        raise Failed(f"the members got {got}")


@scenario()
def large_payload(t):
    """200,000 characters, more than one read and one WebSocket frame of most."""
    sub = t.client("sub")
    sub.subscribe(t.topic(), 1)
    pub = t.client("pub")
    payload = "0123456789" * 20000
    for qos in (0, 1):
        pub.publish(t.topic(), payload, qos)
        expect(sub, t.topic(), payload, qos)


@scenario(versions=(5,))
def properties(t):
    """Content type and user properties, repeated names too."""
    sub = t.client("sub")
    sub.subscribe(t.topic(), 1)
    pub = t.client("pub")
    given = {"content_type": "text/plain", "user_property": [("a", "1"), ("b", "2"), ("a", "3")]}
    pub.publish(t.topic(), "x", 1, properties=given)
    got = expect(sub, t.topic(), "x", 1).properties
    pairs, wanted = got["user_property"], given["user_property"]
    same = pairs == dict(wanted) if isinstance(pairs, dict) else sorted(map(tuple, pairs)) == sorted(wanted)
    if got["content_type"] != "text/plain" or not same:
        raise Failed(f"properties {got}")
