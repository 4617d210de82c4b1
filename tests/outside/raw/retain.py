"""Retained messages: stored, replaced, deleted, sent on subscribing."""

import wire
from rows import check, row


@row(v="345", s4="3.3.1-5 3.3.1-6 3.3.1-8", s5="3.3.1-5 3.3.1-9")
async def sent_to_a_new_subscriber_with_retain_set(t):
    pub = await t.connect("pub")
    for qos in (0, 1, 2):
        await pub.publish(t.topic(f"q{qos}"), b"kept", qos, retain=True)
    await pub.disconnect()
    sub = await t.connect("sub")
    for qos in (0, 1, 2):
        await sub.subscribe(t.topic(f"q{qos}"), qos=2)
        await sub.message(t.topic(f"q{qos}"), b"kept", qos, retain=True)
    await sub.quiet()


@row(v="345", s4="3.3.1-9", s5="3.3.1-12")
async def flag_is_0_for_a_live_subscriber(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic())
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"now", retain=True)
    await sub.message(t.topic(), b"now", retain=False)


@row(v="345", s4="3.3.1-5 3.3.1-7", s5="3.3.1-5")
async def a_newer_one_replaces_it(t):
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"old", 2, retain=True)
    await pub.publish(t.topic(), b"new", 0, retain=True)
    await pub.ping()
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=2)
    await sub.message(t.topic(), b"new", 0, retain=True)
    await sub.quiet()


@row(v="345", s4="3.3.1-10 3.3.1-11", s5="3.3.1-6 3.3.1-7")
async def an_empty_payload_deletes_it(t):
    """And is delivered to live subscribers like any message."""
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"kept", 1, retain=True)
    live = await t.connect("live")
    await live.subscribe(t.topic(), qos=1)
    await live.message(t.topic(), b"kept", 1, retain=True)
    await pub.publish(t.topic(), b"", 1, retain=True)
    await live.message(t.topic(), b"", 1, retain=False)
    late = await t.connect("late")
    await late.subscribe(t.topic(), qos=1)
    await late.quiet()


@row(v="345", s4="3.3.1-12", s5="3.3.1-8")
async def without_the_flag_nothing_changes(t):
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"kept", 1, retain=True)
    await pub.publish(t.topic(), b"passing", 1)
    await pub.publish(t.topic(), b"", 1)
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    await sub.message(t.topic(), b"kept", 1, retain=True)
    await sub.quiet()


@row(v="345", s4="3.1.2-7", s5="3.3.1-5")
async def outlives_its_publisher(t):
    """A retained message is no part of a session: a clean start of its publisher does not touch it."""
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"kept", 1, retain=True)
    await pub.drop()
    await t.connect("pub", clean=True)
    sub = await t.connect("sub")
    await sub.subscribe(t.topic())
    await sub.message(t.topic(), b"kept", retain=True)


@row(v="34", s4="3.8.4-3")
async def sent_again_at_each_subscribe(t):
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"kept", 1, retain=True)
    sub = await t.connect("sub")
    for _ in range(3):
        await sub.subscribe(t.topic(), qos=1)
        await sub.message(t.topic(), b"kept", 1, retain=True)


@row(v="345", s4="3.3.1-6", s5="3.3.1-9")
async def wildcards_find_them_all(t):
    pub = await t.connect("pub")
    names = [t.topic(n) for n in ("a", "a/b", "a/c", "a/b/d", "e")]
    for name in names:
        await pub.publish(name, name.encode(), 1, retain=True)
    expected = {"#": names, "a/#": names[:4], "a/+": names[1:3], "+": [names[0], names[4]], "+/b": names[1:2],
                "a/+/d": names[3:4], "nothing/#": []}
    for i, (suffix, want) in enumerate(expected.items()):
        sub = await t.connect(f"sub{i}")
        await sub.subscribe(t.topic(suffix))
        got = {(await sub.message(retain=True)).topic for _ in want}
        check(got == set(want), f"{suffix}: {got}")
        await sub.quiet(0.1)


@row(v="345", s4="4.7.2-1", s5="4.7.2-1")
async def wildcards_do_not_find_dollar_topics(t):
    pub = await t.connect("pub")
    name = f"$kept{t.key}/x"
    await pub.publish(name, b"kept", 1, retain=True)
    wild = await t.connect("wild")
    await wild.subscribe("+/x")
    await wild.quiet()
    named = await t.connect("named")
    await named.subscribe(f"$kept{t.key}/+")
    await named.message(name, b"kept", retain=True)
    await pub.publish(name, b"", 1, retain=True)


@row(v="5", s5="3.3.1-9 3.3.1-10 3.3.1-11")
async def retain_handling(t):
    """0: at each subscribe; 1: only if the subscription is new; 2: never."""
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"kept", 1, retain=True)
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1, handling=2)
    await sub.quiet()
    await sub.subscribe(t.topic(), qos=1, handling=1)
    await sub.quiet()
    await sub.subscribe(t.topic(), qos=1, handling=0)
    await sub.message(t.topic(), b"kept", 1, retain=True)
    await sub.subscribe(t.topic(), qos=1, handling=0)
    await sub.message(t.topic(), b"kept", 1, retain=True)
    await sub.unsubscribe(t.topic())
    await sub.subscribe(t.topic(), qos=1, handling=1)
    await sub.message(t.topic(), b"kept", 1, retain=True)
    await sub.quiet()


@row(v="5", s5="3.3.1-10")
async def retain_handling_1_in_a_resumed_session(t):
    """The subscription exists in the stored session: nothing is sent for it again."""
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"kept", 1, retain=True)
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1, handling=1)
    await sub.message(t.topic(), b"kept", 1, retain=True)
    await sub.disconnect()
    sub = await t.keeper("sub", present=True)
    await sub.subscribe(t.topic(), qos=1, handling=1)
    await sub.quiet()


@row(v="5", s5="3.3.4-3 3.3.2-17")
async def carries_properties_and_subscription_id(t):
    pub = await t.connect("pub")
    given = {"content_type": "text/plain", "user_property": [("a", "1"), ("a", "2")], "response_topic": "r",
             "correlation_data": b"\0\1", "payload_format": 1}
    await pub.publish(t.topic(), b"kept", 1, retain=True, properties=given)
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1, ident=5)
    packet = await sub.message(t.topic(), b"kept", 1, retain=True)
    check(packet.properties == {**given, "subscription_id": [5]}, packet)


@row(v="5", s5="3.3.1-12 3.3.1-13")
async def flag_stays_set_on_subscribing_whatever_retain_as_published_says(t):
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"kept", 1, retain=True)
    sub = await t.connect("sub")
    for rap in (False, True):
        await sub.subscribe(t.topic(), qos=1, rap=rap)
        await sub.message(t.topic(), b"kept", 1, retain=True)


@row(v="5", s5="3.3.2-5 3.3.2-6", phase="timed")
async def expires(t):
    """A retained message with an expiry counts down and is gone in the end."""
    pub = await t.connect("pub")
    await pub.publish(t.topic("short"), b"s", 1, retain=True, properties={"message_expiry": 2})
    await pub.publish(t.topic("long"), b"l", 1, retain=True, properties={"message_expiry": 100})
    await pub.quiet(2.6)
    sub = await t.connect("sub")
    await sub.subscribe(t.topic("short"))
    await sub.subscribe(t.topic("long"))
    packet = await sub.message(t.topic("long"), b"l", retain=True)
    left = packet.properties.get("message_expiry")
    check(96 <= left <= 98, f"{left} s left of 100 after 2.6 s")
    await sub.quiet()


@row(v="345", s4="3.8.4-1", s5="3.8.4-1")
async def suback_comes_with_its_retained_messages_whole(t):
    """Many retained messages: the SUBACK and every message arrive, beyond one window of unacknowledged ones."""
    pub = await t.connect("pub")
    for i in range(70):
        await pub.publish(t.topic(f"n/{i}"), b"%d" % i, 1, retain=True)
    sub = await t.connect("sub")
    sub.send(wire.subscribe(9, [(t.topic("n/#"), 1)], t.v))
    seen, suback = set(), False
    while len(seen) < 70 or not suback:
        packet = await sub.recv()
        if packet.kind == wire.SUBACK:
            suback = True
        else:
            check(packet.kind == wire.PUBLISH and packet.retain, packet)
            seen.add(packet.payload)
            sub.send(wire.ack(wire.PUBACK, packet.pid))
    await sub.quiet()


@row(v="345", s4="3.3.1-9 3.3.1-8", s5="3.3.1-12 3.3.1-9")
async def published_behind_the_suback_comes_once(t):
    """A retained message that is published when the subscription has been acknowledged is a live one: it comes with
    RETAIN 0 and not a second time as what was retained before."""
    sub, pub = await t.connect("sub"), await t.connect("pub")
    for i in range(30):
        await sub.subscribe(t.topic(f"n{i}"))
        await pub.publish(t.topic(f"n{i}"), b"now", 1, retain=True)
        await sub.message(t.topic(f"n{i}"), b"now", 0, retain=False)
    await sub.quiet()
