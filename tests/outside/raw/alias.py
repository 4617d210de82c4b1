"""Topic aliases, from clients to the server and back."""

from rows import check, row


@row(v="5", s5="3.3.2-12")
async def from_the_client(t):
    """Every value from 1 to the announced maximum, set, used and set anew."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic("#"))
    pub = await t.connect("pub")
    top = pub.connack.properties["topic_alias_maximum"]
    for alias in (1, 2, top):
        name = t.topic(f"n{alias}")
        pub.post(name, b"set", properties={"topic_alias": alias})
        pub.post("", b"used", properties={"topic_alias": alias})
        await sub.message(name, b"set")
        await sub.message(name, b"used")
    pub.post(t.topic("other"), b"set anew", properties={"topic_alias": 1})
    pub.post("", b"used", properties={"topic_alias": 1})
    await sub.message(t.topic("other"), b"set anew")
    await sub.message(t.topic("other"), b"used")
    await pub.publish("", b"acknowledged", 1, properties={"topic_alias": 2})
    await sub.message(t.topic("n2"), b"acknowledged")


@row(v="5", s5="3.3.2-8")
async def zero(t):
    conn = await t.connect()
    conn.post(t.topic(), b"x", properties={"topic_alias": 0})
    await conn.expect_end(0x94)


@row(v="5", s5="3.2.2-17 3.3.2-9")
async def above_the_maximum(t):
    conn = await t.connect()
    conn.post(t.topic(), b"x", properties={"topic_alias": conn.connack.properties["topic_alias_maximum"] + 1})
    await conn.expect_end(0x94)


@row(v="5")
async def unknown(t):
    """No topic and an alias that was never set: a protocol error."""
    conn = await t.connect()
    conn.post("", b"x", properties={"topic_alias": 3})
    await conn.expect_end({0x82, 0x94})


@row(v="5", s5="3.3.2-7")
async def forgotten_with_the_connection(t):
    conn = await t.keeper()
    conn.post(t.topic(), b"x", properties={"topic_alias": 3})
    await conn.ping()
    await conn.drop()
    conn = await t.keeper(present=True)
    conn.post("", b"x", properties={"topic_alias": 3})
    await conn.expect_end({0x82, 0x94})


@row(v="5", profile="small", s5="3.2.2-17")
async def maximum_as_configured(t):
    """max_topic_alias is 4 here."""
    conn = await t.connect()
    check(conn.connack.properties.get("topic_alias_maximum") == 4, conn.connack)
    conn.post(t.topic(), b"x", properties={"topic_alias": 4})
    await conn.ping()
    conn.post(t.topic(), b"x", properties={"topic_alias": 5})
    await conn.expect_end(0x94)


@row(v="5")
async def memory_of_aliases_is_bounded(t):
    """Topics of an alias map hold at most 64 KiB a connection; above it 0x97."""
    conn = await t.connect()
    for alias in range(1, 5):
        conn.post(t.topic() + "/" + "x" * 30000 + str(alias), b"", properties={"topic_alias": alias})
    await conn.expect_end(0x97)


@row(v="5", s5="3.1.2-27 3.3.2-11")
async def none_to_a_client_that_allows_none(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic())
    pub = await t.connect("pub")
    for _ in range(6):
        await pub.publish(t.topic(), b"x", 1)
        check("topic_alias" not in (await sub.message(t.topic())).properties, "an alias that was not allowed")


@row(v="5", s5="3.1.2-26 3.3.2-11 3.3.2-8")
async def to_the_client(t):
    """The full topic goes first, always; the alias is within the client's maximum and stands for that topic."""
    sub = await t.connect("sub", properties={"topic_alias_maximum": 2})
    await sub.subscribe(t.topic("#"), qos=1)
    pub = await t.connect("pub")
    names, known, used = [t.topic(f"a/long/topic/name/{i}") for i in range(5)], {}, 0
    for _ in range(4):
        for name in names:
            await pub.publish(name, name.encode(), 1)
            packet = await sub.message()
            alias = packet.properties.get("topic_alias")
            check(alias is None or 1 <= alias <= 2, f"alias {alias}")
            if packet.topic:
                if alias:
                    known[alias] = packet.topic
                topic = packet.topic
            else:
                used += 1
                check(alias in known, "an alias before its topic")
                topic = known[alias]
            check(topic == packet.payload.decode() == name, packet)
    check(used > 0, "no alias was used although the client allows two")


@row(v="5", s5="3.3.2-7 3.1.2-26")
async def to_the_client_anew_after_a_reconnect(t):
    """A message sent again on a new connection has its full topic."""
    sub = await t.keeper("sub", properties={"topic_alias_maximum": 10})
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    for i in range(4):
        await pub.publish(t.topic(), b"%d" % i, 1)
    for _ in range(4):
        await sub.message(ack=False)
    await sub.drop()
    sub = await t.keeper("sub", present=True, properties={"topic_alias_maximum": 10})
    first = await sub.message(dup=True)
    check(first.topic == t.topic(), first)
    for _ in range(3):
        await sub.message(dup=True)


@row(v="34")
async def none_in_3x(t):
    """3.x has no aliases: the topic is there each time (the parser checks that it is not empty)."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic())
    pub = await t.connect("pub", v=5)
    pub.post(t.topic(), b"1", properties={"topic_alias": 1})
    pub.post("", b"2", properties={"topic_alias": 1})
    await sub.message(t.topic(), b"1")
    await sub.message(t.topic(), b"2")
