"""Permission to publish, subscribe and leave a will: the answers to what an ACL file denies.

The rules are in `broker.ACL`: `denied/#` and `half/pub` may not be published, `denied/#` and `secret/#` not subscribed.
"""

import wire
from rows import check, row

NOT_AUTHORIZED = 0x87


@row(v="345", profile="acl", s4="3.3.5-2", s5="3.4.2-1 4.3.3-9")
async def publish_denied(t):
    """5.0 is told 0x87; 3.x is acknowledged (deny_action is ignore); nobody gets the message."""
    sub = await t.connect("sub")
    await sub.subscribe("half/pub", qos=2)
    conn = await t.connect()
    code = NOT_AUTHORIZED if t.v == 5 else 0
    for qos in (1, 2, 1, 2):
        await conn.publish("half/pub", b"x", qos, rc=code, pid=7)
    conn.post("half/pub", b"x")
    await conn.ping()
    await sub.quiet()


@row(v="345", profile="acl_disconnect", s4="3.3.5-2", s5="4.13.2-1")
async def publish_denied_by_disconnect(t):
    """deny_action is disconnect here."""
    for qos in (0, 1):
        conn = await t.connect()
        conn.post("denied/x", b"x", qos)
        await conn.expect_end(NOT_AUTHORIZED)


@row(v="345", profile="acl", s4="3.8.4-5 3.9.3-1", s5="3.8.4-7 3.9.3-1")
async def subscribe_denied(t):
    """0x87 in 5.0, 0x80 in 3.x, for that filter alone."""
    conn = await t.connect()
    no = NOT_AUTHORIZED if t.v == 5 else 0x80
    await conn.subscribe((t.topic("a"), 1), ("denied/x", 1), ("secret/#", 0), (t.topic("b"), 2), want=[1, no, no, 2])
    conn.post(t.topic("b"), b"x")
    await conn.message(t.topic("b"), b"x", 0)


@row(v="45", profile="acl")
async def first_match_wins(t):
    """The user whom an earlier rule allows may subscribe what a later one denies to all."""
    conn = await t.connect(user="reader", password="x")
    await conn.subscribe("secret/#", qos=1)


@row(v="5", profile="acl")
async def rules_by_client_id(t):
    """One after the other: both versions connect by the client identifier of the rule."""
    for v, no in ((4, 0x80), (5, NOT_AUTHORIZED)):
        conn = await t.connect(v=v, cid="banned-client", clean=True)
        await conn.subscribe("mine/x", want=[no])
        await conn.disconnect()
        conn = await t.connect(f"other{v}", v=v)
        await conn.subscribe("mine/x")


@row(v="45", profile="acl")
async def literal_rules(t):
    """{eq, "literal/#"} denies that very filter and nothing else below it."""
    no = NOT_AUTHORIZED if t.v == 5 else 0x80
    conn = await t.connect()
    await conn.subscribe("literal/#", want=[no])
    await conn.subscribe("literal/a")


@row(v="345", profile="acl")
async def a_wider_filter_does_not_leak(t):
    """`#` is granted, but what a deny rule covers is not delivered through it."""
    wide = await t.connect("wide")
    await wide.subscribe("#", qos=1)
    pub = await t.connect("pub")
    await pub.publish(f"secret/{t.key}", b"hidden", 1)
    await pub.publish(f"open/{t.key}", b"seen", 1)
    await wide.ask(lambda p: p.topic == f"open/{t.key}", lambda p: p.topic.startswith("secret/"))
    await wide.drop()


@row(v="345", profile="acl")
async def shared_subscription_is_checked_by_its_filter(t):
    no = NOT_AUTHORIZED if t.v == 5 else 0x80
    conn = await t.connect()
    await conn.subscribe("$share/g/secret/#", want=[no])


@row(v="345", profile="acl")
async def will_denied(t):
    """Checked at CONNECT: refused there (0x87, 3.x 0x05), or accepted and the will never published."""
    watcher = await t.connect("watcher")
    await watcher.subscribe("half/pub", qos=1)
    conn = await t.open()
    conn.send(wire.connect(t.cid(), t.v, will=("half/pub", b"gone", 1, False)))
    packet = await conn.recv()
    check(packet is None or packet.rc in (0, NOT_AUTHORIZED if t.v == 5 else 5), packet)
    if packet is not None and packet.rc == 0:
        await conn.drop()
    await watcher.quiet(0.5)


@row(v="345", s5="3.4.2-1", s4="3.3.5-2")
async def sys_topics_cannot_be_published(t):
    """5.0 0x87; 3.x is acknowledged; nothing arrives."""
    sub = await t.connect("sub")
    await sub.subscribe(f"$SYS/{t.key}", qos=1)
    conn = await t.connect()
    for qos in (1, 2):
        await conn.publish(f"$SYS/{t.key}", b"forged", qos, rc=NOT_AUTHORIZED if t.v == 5 else 0)
    conn.post(f"$SYS/{t.key}", b"forged", retain=True)
    await sub.quiet()


@row(v="345")
async def other_dollar_topics_are_ordinary(t):
    conn = await t.connect()
    await conn.subscribe(f"$data/{t.key}", qos=1)
    conn.post(f"$data/{t.key}", b"x")
    await conn.message(f"$data/{t.key}", b"x")


@row(v="45", limit=80, phase="slow")
async def sys_topics_can_be_read_from_loopback(t):
    """Broker version, uptime and client counts come at once (retained) or within a minute."""
    conn = await t.connect()
    await conn.subscribe("$SYS/#")
    seen = set()
    while not {"version", "uptime", "clients"} <= seen:
        packet = await conn.message(retain=None, timeout=70)
        check(packet.topic.startswith("$SYS/") and packet.payload, packet)
        seen |= {word for word in ("version", "uptime", "clients") if word in packet.topic}


@row(v="345")
async def anonymous_from_loopback(t):
    """Without an authenticator a client from loopback is accepted, with user name and password or without."""
    await t.connect("one")
    await t.connect("two", user="anyone", password="anything")
