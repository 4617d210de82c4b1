"""SUBSCRIBE and UNSUBSCRIBE: codes, options, identifiers, replacement, overlap."""

import wire
from rows import check, row
from wire import subscribe, unsubscribe


@row(v="345", s4="3.8.4-1 3.8.4-2 3.8.4-4 3.8.4-5 3.9.3-1 3.9.3-2 2.3.1-7",
     s5="3.8.4-1 3.8.4-2 3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 3.9.3-2 2.2.1-6")
async def one_code_for_each_filter(t):
    """Several filters in one SUBSCRIBE: codes in their order, under the same packet identifier."""
    conn = await t.connect()
    await conn.subscribe((t.topic("a"), 2), (t.topic("b"), 0), (t.topic("c/#"), 1), (t.topic("+/d"), 2))
    for pid in (1, 65535):
        conn.send(subscribe(pid, [(t.topic("a"), 1)], t.v))
        suback = await conn.expect(wire.SUBACK, pid=pid)
        check(suback.rcs == [1], suback)


@row(v="345", s4="3.10.4-4 3.10.4-6 2.3.1-7", s5="3.10.4-4 3.10.4-6 3.11.3-1 3.11.3-2 2.2.1-6")
async def unsuback_for_several_filters(t):
    conn = await t.connect()
    await conn.subscribe(t.topic("a"), t.topic("b"))
    await conn.unsubscribe(t.topic("b"), t.topic("never"), t.topic("a"), want=[0, 0x11, 0])


@row(v="345", s4="3.10.4-5", s5="3.10.4-5")
async def unsubscribe_without_a_subscription(t):
    conn = await t.connect()
    await conn.unsubscribe(t.topic(), want=[0x11])


@row(v="345", s4="3.10.4-1 3.10.4-2", s5="3.10.4-1 3.10.4-2")
async def unsubscribe_compares_characters(t):
    """A filter that matches the same topics but is not the same string deletes nothing."""
    conn = await t.connect()
    await conn.subscribe(t.topic("a/+"))
    await conn.unsubscribe(t.topic("a/#"), t.topic("a/b"), want=[0x11, 0x11])
    await conn.publish(t.topic("a/b"), b"still")
    await conn.message(t.topic("a/b"), b"still")
    await conn.unsubscribe(t.topic("a/+"))
    await conn.publish(t.topic("a/b"), b"no more")
    await conn.quiet()


@row(v="345", s4="3.10.4-3", s5="3.10.4-3")
async def started_deliveries_are_completed_after_unsubscribe(t):
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 2)
    packet = await sub.message(t.topic(), b"x", 2, ack=False)
    await sub.unsubscribe(t.topic())
    sub.send(wire.ack(wire.PUBREC, packet.pid))
    await sub.expect(wire.PUBREL, pid=packet.pid, rc=0)
    await sub.drop()
    sub = await t.keeper("sub", present=True)
    await sub.expect(wire.PUBREL, pid=packet.pid, rc=0)
    sub.send(wire.ack(wire.PUBCOMP, packet.pid))
    await sub.quiet()


@row(v="345", s4="3.8.4-3", s5="3.8.4-3")
async def same_filter_replaces_the_subscription(t):
    """One copy afterwards, at the new QoS."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=2)
    await sub.subscribe(t.topic(), qos=0)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 2)
    await sub.message(t.topic(), b"x", 0)
    await sub.subscribe(t.topic(), qos=1)
    await pub.publish(t.topic(), b"y", 2)
    await sub.message(t.topic(), b"y", 1)
    await sub.quiet()


@row(v="345", s4="3.8.4-3", s5="3.8.4-4")
async def replacing_loses_no_message(t):
    """A publisher that does not pause while the subscriber repeats its SUBSCRIBE."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    for i in range(60):
        pub.post(t.topic(), b"%d" % i, 1)
        if i % 5 == 0:
            sub.send(subscribe(1000 + i, [(t.topic(), 1)], t.v))
    got = []
    while len(got) < 60:
        packet = await sub.recv()
        if packet.kind == wire.PUBLISH:
            got.append(packet.payload)
            sub.send(wire.ack(wire.PUBACK, packet.pid))
    check(got == [b"%d" % i for i in range(60)], got)


@row(v="345", s4="3.3.5-1", s5="3.3.4-2")
async def overlapping_subscriptions_deliver_once(t):
    """One copy at the highest of the granted QoS."""
    sub = await t.connect("sub")
    await sub.subscribe((t.topic("a/b"), 0), (t.topic("a/+"), 2), (t.topic("a/#"), 1), (t.topic("#"), 0))
    pub = await t.connect("pub")
    await pub.publish(t.topic("a/b"), b"x", 2)
    await sub.message(t.topic("a/b"), b"x", 2)
    await sub.quiet()


@row(v="5", s5="3.3.4-3 3.3.4-4")
async def overlap_carries_all_subscription_ids(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic("a/b"), ident=1)
    await sub.subscribe(t.topic("a/+"), ident=268435455)
    await sub.subscribe(t.topic("a/#"), ident=300)
    await sub.subscribe(t.topic("#"))
    pub = await t.connect("pub")
    await pub.publish(t.topic("a/b"), b"x")
    packet = await sub.message(t.topic("a/b"), b"x")
    got = sorted(packet.properties.get("subscription_id", []))
    check(got == [1, 300, 268435455], f"subscription identifiers {got}")
    await sub.quiet()


@row(v="5", s5="3.3.4-3")
async def subscription_id_follows_the_subscription(t):
    """None without one; replaced with the subscription; gone when it is replaced by one without."""
    sub = await t.connect("sub")
    pub = await t.connect("pub")

    async def ids():
        await pub.publish(t.topic(), b"x")
        return (await sub.message(t.topic(), b"x")).properties.get("subscription_id")

    await sub.subscribe(t.topic())
    check(await ids() is None, "an identifier without one")
    await sub.subscribe(t.topic(), ident=7)
    check(await ids() == [7], "not 7")
    await sub.subscribe(t.topic(), ident=8)
    check(await ids() == [8], "not 8")
    await sub.subscribe(t.topic())
    check(await ids() is None, "the identifier outlived its subscription")


@row(v="5", s5="3.3.4-3")
async def subscription_id_survives_the_connection(t):
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1, ident=9)
    await sub.disconnect()
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1)
    sub = await t.keeper("sub", present=True)
    packet = await sub.message(t.topic(), b"x", 1)
    check(packet.properties.get("subscription_id") == [9], packet)


@row(v="5", s5="3.8.3-3")
async def no_local(t):
    """What a client published itself does not come back; others' messages do."""
    one, two = await t.connect("one"), await t.connect("two")
    await one.subscribe(t.topic(), qos=1, no_local=True)
    await one.publish(t.topic(), b"own", 1)
    await one.quiet()
    await two.publish(t.topic(), b"other", 1)
    await one.message(t.topic(), b"other", 1)


@row(v="5", s5="3.8.3-3")
async def no_local_of_only_one_overlapping_subscription(t):
    """Not delivered only if all matching subscriptions are No Local."""
    conn = await t.connect()
    await conn.subscribe(t.topic("a/+"), qos=1, no_local=True)
    await conn.publish(t.topic("a/b"), b"none", 0)
    await conn.quiet()
    await conn.subscribe(t.topic("a/#"), qos=0)
    conn.post(t.topic("a/b"), b"one")
    await conn.message(t.topic("a/b"), b"one")
    await conn.quiet()


@row(v="5", s5="3.8.3-3")
async def no_local_holds_across_connections(t):
    """It is the client identifier that counts: the own message stays away after a reconnect too."""
    conn = await t.keeper()
    await conn.subscribe(t.topic(), qos=1, no_local=True)
    await conn.disconnect()
    conn = await t.keeper(present=True)
    await conn.publish(t.topic(), b"own", 1)
    await conn.quiet()


@row(v="5", s5="3.3.1-12 3.3.1-13")
async def retain_as_published(t):
    plain, rap = await t.connect("plain"), await t.connect("rap")
    await plain.subscribe(t.topic())
    await rap.subscribe(t.topic(), rap=True)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"retained", retain=True)
    await plain.message(t.topic(), b"retained", retain=False)
    await rap.message(t.topic(), b"retained", retain=True)
    await pub.publish(t.topic(), b"not", retain=False)
    await plain.message(t.topic(), b"not", retain=False)
    await rap.message(t.topic(), b"not", retain=False)


@row(v="5", s5="3.3.1-13")
async def retain_as_published_if_any_overlapping_one_asks(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic("a"), qos=1)
    await sub.subscribe(t.topic("+"), qos=0, rap=True)
    pub = await t.connect("pub")
    await pub.publish(t.topic("a"), b"x", 1, retain=True)
    await sub.message(t.topic("a"), b"x", 1, retain=True)
    await sub.quiet()


@row(v="5")
async def properties_in_subscribe_and_unsubscribe(t):
    conn = await t.connect()
    conn.send(subscribe(3, [(t.topic(), 1)], properties={"subscription_id": 4, "user_property": [("a", "b")] * 3}))
    check((await conn.expect(wire.SUBACK, pid=3)).rcs == [1], "refused")
    conn.send(unsubscribe(4, [t.topic()], properties={"user_property": ("a", "b")}))
    check((await conn.expect(wire.UNSUBACK, pid=4)).rcs == [0], "refused")


@row(v="345", s4="4.1.0-1", s5="4.1.0-1")
async def many_filters_in_one_packet(t):
    """500 filters in one SUBSCRIBE, one code each, all in force, all gone after one UNSUBSCRIBE."""
    conn = await t.connect()
    names = [t.topic(f"n{i}") for i in range(500)]
    await conn.subscribe(*names)
    for i in (0, 250, 499):
        conn.post(names[i], b"x")
        await conn.message(names[i], b"x")
    await conn.unsubscribe(*names)
    conn.post(names[250], b"x")
    await conn.quiet()
