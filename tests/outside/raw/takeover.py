"""The same client identifier again while the first connection is open."""

import asyncio

import wire
from conn import Silence
from rows import check, row


@row(v="345", s4="3.1.4-2", s5="3.1.4-3 3.14.2-2")
async def the_new_connection_wins(t):
    """The old one is closed at once, a 5.0 client after DISCONNECT 0x8E."""
    old = await t.connect()
    new = await t.connect()
    await old.expect_end(0x8E)
    await new.quiet()


@row(v="345", s4="3.1.4-2 3.2.2-2", s5="3.1.4-3 3.2.2-3")
async def the_session_goes_over(t):
    """With what was unacknowledged on the old connection."""
    old = await t.keeper()
    await old.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"unacknowledged", 1)
    await old.message(t.topic(), b"unacknowledged", 1, ack=False)
    new = await t.keeper(present=True)
    await new.message(t.topic(), b"unacknowledged", 1, dup=True)
    await old.expect_end(0x8E)
    await pub.publish(t.topic(), b"next", 1)
    await new.message(t.topic(), b"next", 1, dup=False)


@row(v="345", s4="3.1.4-2", s5="3.1.4-3")
async def across_versions(t):
    old = await t.connect(v=4 if t.v == 5 else 5)
    await t.connect()
    await old.expect_end(0x8E)


@row(v="5", s5="3.1.4-3 3.1.2-8")
async def will_without_delay_is_published_before_the_new_connack(t):
    """With Clean Start 0 and 1: the old connection ended without a DISCONNECT of the client."""
    watcher = await t.connect("watcher")
    await watcher.subscribe(t.topic("will"))
    for clean in (False, True):
        await t.connect(will=(t.topic("will"), b"taken over", 0, False), expiry=300)
        await t.connect(clean=clean, expiry=300)
        await watcher.message(t.topic("will"), b"taken over")
    await watcher.quiet()


@row(v="34", s4="3.1.4-2 3.1.2-8")
async def will_of_3x_is_published(t):
    watcher = await t.connect("watcher")
    await watcher.subscribe(t.topic("will"))
    await t.connect(will=(t.topic("will"), b"taken over", 0, False))
    await t.connect()
    await watcher.message(t.topic("will"), b"taken over")


@row(v="345")
async def old_will_does_not_overwrite_what_the_new_connection_publishes(t):
    """Status topics: will "offline", then "online" after the reconnect; the retained one must be "online"."""
    for _ in range(8):
        await t.connect("device", will=(t.topic("status"), b"offline", 1, True))
        new = await t.connect("device", will=(t.topic("status"), b"offline", 1, True))
        await new.publish(t.topic("status"), b"online", 1, retain=True)
        sub = await t.connect("sub")
        await sub.subscribe(t.topic("status"), qos=1)
        await sub.message(t.topic("status"), b"online", 1, retain=True)
        await sub.disconnect()


@row(v="345", s4="3.1.4-2", s5="3.1.4-3")
async def many_in_a_row(t):
    """Fifty connections with one identifier, started together: one is left, the others are taken over, or refused
    because a later one has taken over before they were served."""
    conns = await asyncio.gather(*(t.open(f"c{i}") for i in range(50)))
    for conn in conns:
        conn.send(wire.connect(t.cid(), t.v, clean=False))

    async def life(conn):
        first = await conn.recv()
        if first is None or first.rc != 0:
            return "refused"
        try:
            second = await conn.recv(4)
        except Silence:
            return "alive"
        check(second is None if t.v != 5 else second.kind == wire.DISCONNECT and second.rc == 0x8E, second)
        return "taken over"

    ends = await asyncio.gather(*(life(conn) for conn in conns))
    check(ends.count("alive") == 1 and ends.count("taken over") > 0, ends)
