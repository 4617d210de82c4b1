"""Shared subscriptions: `$share/group/filter`."""

import asyncio

import wire
from rows import check, row


def share(t, name="t", group="g"):
    return f"$share/{group}/{t.topic(name)}"


async def collect(*conns, quiet=0.3):
    """What each connection got, acknowledged, until nothing came for a while."""
    await asyncio.sleep(quiet)
    got = []
    for conn in conns:
        mine = []
        conn.send(wire.pingreq())
        while (packet := await conn.recv()).kind != wire.PINGRESP:
            mine.append(packet)
            if packet.kind == wire.PUBLISH and packet.qos:
                conn.send(wire.ack(wire.PUBACK if packet.qos == 1 else wire.PUBREC, packet.pid))
            elif packet.kind == wire.PUBREL:
                conn.send(wire.ack(wire.PUBCOMP, packet.pid))
        got.append([p for p in mine if p.kind == wire.PUBLISH])
    return got


@row(v="345", s5="4.8.2-1 4.8.2-2")
async def each_message_goes_to_one_member(t):
    """Each once, and with round robin (the default) to all in turn."""
    members = [await t.connect(f"m{i}") for i in range(3)]
    for member in members:
        await member.subscribe(share(t), qos=1)
    pub = await t.connect("pub")
    for i in range(30):
        await pub.publish(t.topic(), b"%d" % i, 1)
    got = await collect(*members)
    check([len(g) for g in got] == [10, 10, 10], [len(g) for g in got])
    check(sorted(int(p.payload) for g in got for p in g) == list(range(30)), "lost or doubled")


@row(v="5", s5="4.8.2-1")
async def groups_and_plain_subscriptions_are_counted_apart(t):
    """Two groups and a plain subscriber each get a copy; a client with both gets both."""
    one, two, both = await t.connect("one"), await t.connect("two"), await t.connect("both")
    await one.subscribe(share(t, group="one"), qos=1)
    await two.subscribe(share(t, group="two"), qos=1)
    await both.subscribe(t.topic(), share(t, group="three"), qos=1)
    pub = await t.connect("pub")
    for i in range(5):
        await pub.publish(t.topic(), b"%d" % i, 1)
    check([len(g) for g in await collect(one, two, both)] == [5, 5, 10], "copies")


@row(v="5", s5="4.8.2-1")
async def members_of_different_versions(t):
    members = [await t.connect(f"m{v}", v=v) for v in (3, 4, 5)]
    for member in members:
        await member.subscribe(share(t), qos=1)
    pub = await t.connect("pub")
    for i in range(9):
        await pub.publish(t.topic(), b"%d" % i, 1)
    got = await collect(*members)
    check([len(g) for g in got] == [3, 3, 3], [len(g) for g in got])


@row(v="5", s5="4.8.2-3 3.8.4-8")
async def each_member_at_its_granted_qos(t):
    low, high = await t.connect("low"), await t.connect("high")
    await low.subscribe(share(t), qos=0)
    await high.subscribe(share(t), qos=2)
    pub = await t.connect("pub")
    for i in range(10):
        await pub.publish(t.topic(), b"%d" % i, 2)
    got_low, got_high = await collect(low, high)
    check(len(got_low) + len(got_high) == 10, (len(got_low), len(got_high)))
    check({p.qos for p in got_low} == {0} and {p.qos for p in got_high} == {2}, "QoS")


@row(v="5", s5="3.3.1-9")
async def retained_messages_are_not_sent(t):
    """A shared subscription gets no retained messages when it is made."""
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"kept", 1, retain=True)
    member = await t.connect("member")
    await member.subscribe(share(t), qos=1)
    await member.quiet()


@row(v="5", s5="3.3.4-3 3.3.4-5")
async def subscription_ids(t):
    """The identifier of the member that was chosen; a plain subscription of the same client has its own copy."""
    member = await t.connect("member")
    await member.subscribe(share(t), qos=1, ident=4)
    await member.subscribe(t.topic(), qos=1, ident=5)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1)
    (got,) = await collect(member)
    check(sorted(p.properties.get("subscription_id") for p in got) == [[4], [5]], got)


@row(v="345")
async def unsubscribed_member_gets_no_more(t):
    one, two = await t.connect("one"), await t.connect("two")
    for member in (one, two):
        await member.subscribe(share(t), qos=1)
    await one.unsubscribe(share(t))
    pub = await t.connect("pub")
    for i in range(6):
        await pub.publish(t.topic(), b"%d" % i, 1)
    check([len(g) for g in await collect(one, two)] == [0, 6], "after UNSUBSCRIBE")


@row(v="345")
async def member_that_left_gets_no_more(t):
    """A session that ended is out of the group; nothing is lost on it."""
    one, two = await t.connect("one"), await t.connect("two")
    for member in (one, two):
        await member.subscribe(share(t), qos=1)
    await one.disconnect()
    pub = await t.connect("pub")
    for i in range(6):
        await pub.publish(t.topic(), b"%d" % i, 1)
    (got,) = await collect(two)
    check([int(p.payload) for p in got] == list(range(6)), got)


@row(v="45")
async def connected_members_go_before_absent_ones(t):
    """While a member is connected, an absent one's session does not swallow messages."""
    away = await t.keeper("away")
    await away.subscribe(share(t), qos=1)
    here = await t.connect("here")
    await here.subscribe(share(t), qos=1)
    await away.disconnect()
    pub = await t.connect("pub")
    for i in range(6):
        await pub.publish(t.topic(), b"%d" % i, 1)
    (got,) = await collect(here)
    check(len(got) == 6, f"{len(got)} of 6")


@row(v="45")
async def only_absent_members(t):
    """Nobody of the group is connected: the message waits in one session."""
    away = await t.keeper("away")
    await away.subscribe(share(t), qos=1)
    await away.disconnect()
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"waits", 1)
    away = await t.keeper("away", present=True)
    await away.message(t.topic(), b"waits", 1)


@row(v="45")
async def unacknowledged_qos_1_moves_when_the_session_ends(t):
    """Not before: an absent member whose session goes on keeps it."""
    one = await t.connect("one")
    await one.subscribe(share(t), qos=1)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1)
    await one.message(t.topic(), b"x", 1, ack=False)
    two = await t.connect("two")
    await two.subscribe(share(t), qos=1)
    await two.quiet()
    await one.drop()
    await two.message(t.topic(), b"x", 1)
    await two.quiet()


@row(v="45")
async def unacknowledged_qos_1_stays_with_a_kept_session(t):
    one = await t.keeper("one")
    await one.subscribe(share(t), qos=1)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1)
    await one.message(t.topic(), b"x", 1, ack=False)
    two = await t.connect("two")
    await two.subscribe(share(t), qos=1)
    await one.drop()
    await two.quiet(0.5)
    one = await t.keeper("one", present=True)
    await one.message(t.topic(), b"x", 1, dup=True)
    await two.quiet()


@row(v="45", s5="4.8.2-4")
async def qos_2_is_completed_with_the_same_member(t):
    one = await t.keeper("one")
    await one.subscribe(share(t), qos=2)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 2)
    first = await one.message(t.topic(), b"x", 2, ack=False)
    two = await t.connect("two")
    await two.subscribe(share(t), qos=2)
    await one.drop()
    await two.quiet(0.5)
    one = await t.keeper("one", present=True)
    again = await one.message(t.topic(), b"x", 2, dup=True)
    check(again.pid == first.pid, "another packet identifier")
    await two.quiet()


@row(v="45", s5="4.8.2-5")
async def qos_2_already_sent_goes_to_no_other(t):
    """The member's session ends: the message is dropped, not given to another."""
    one = await t.connect("one")
    await one.subscribe(share(t), qos=2)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 2)
    await one.message(t.topic(), b"x", 2, ack=False)
    two = await t.connect("two")
    await two.subscribe(share(t), qos=2)
    await one.drop()
    await two.quiet(0.6)


@row(v="5", s5="4.8.2-6 4.4.0-2")
async def refused_by_code_goes_to_no_other(t):
    """PUBACK and PUBREC of 0x80 or above end the delivery."""
    for qos, kind in ((1, wire.PUBACK), (2, wire.PUBREC)):
        one = await t.connect(f"one{qos}")
        await one.subscribe(share(t, f"q{qos}"), qos=qos)
        pub = await t.connect(f"pub{qos}")
        await pub.publish(t.topic(f"q{qos}"), b"x", qos)
        packet = await one.message(t.topic(f"q{qos}"), b"x", qos, ack=False)
        two = await t.connect(f"two{qos}")
        await two.subscribe(share(t, f"q{qos}"), qos=qos)
        one.send(wire.ack(kind, packet.pid, 0x80))
        await one.ping()
        await one.disconnect()
        await two.quiet(0.4)


@row(v="5")
async def wildcards_in_the_filter(t):
    one, two = await t.connect("one"), await t.connect("two")
    for member in (one, two):
        await member.subscribe(f"$share/g/{t.topic('+/#')}", qos=1)
    pub = await t.connect("pub")
    for i in range(6):
        await pub.publish(t.topic(f"x/{i}"), b"", 1)
    check(sorted(len(g) for g in await collect(one, two)) == [3, 3], "not shared evenly")


@row(v="5", s5="3.8.4-3")
async def subscribing_again_does_not_add_a_second_member(t):
    one, two = await t.connect("one"), await t.connect("two")
    for _ in range(3):
        await one.subscribe(share(t), qos=1)
    await two.subscribe(share(t), qos=1)
    pub = await t.connect("pub")
    for i in range(6):
        await pub.publish(t.topic(), b"%d" % i, 1)
    check([len(g) for g in await collect(one, two)] == [3, 3], "shares")


@row(v="5")
async def share_names_are_any_characters(t):
    """Spaces, dots, UTF-8, and `$share` itself."""
    for i, group in enumerate(("a b", "group.1", "\u00fcnter", "$share", "$queue")):
        one = await t.connect(f"one{i}")
        await one.subscribe(share(t, group=group), qos=1)
        pub = await t.connect(f"pub{i}")
        await pub.publish(t.topic(), b"x", 1)
        await one.message(t.topic(), b"x", 1)
        await one.disconnect()
