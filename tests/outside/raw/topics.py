"""Topic names and filters: what is legal, what matches what."""

import wire
from rows import check, row, table
from wire import subscribe

INVALID = 0x8F


async def filter_refused(t, topic_filter):
    """A filter that breaks the rules: an error code for it (0x8F, in 3.x 0x80), or the end of the connection.
    A valid one beside it is not harmed when the connection lives."""
    conn = await t.connect()
    conn.send(subscribe(1, [(t.topic("good"), 0), (topic_filter, 0)], t.v))
    packet = await conn.recv()
    if t.v == 5:
        if packet.kind == wire.SUBACK:
            check(packet.rcs == [0, INVALID], packet)
            await conn.ping()
        else:
            check(packet.kind == wire.DISCONNECT and packet.rc in (0x81, 0x82, INVALID), packet)
            await conn.expect_close()
    elif packet is not None:
        check(packet.kind == wire.SUBACK and packet.rcs == [0, 0x80], packet)
        await conn.ping()


FILTERS = [
    ("hash_not_last", "4.7.1-1", "a/#/b"),
    ("hash_in_a_level", "4.7.1-1", "a/b#"),
    ("hash_then_slash", "4.7.1-1", "#/"),
    ("two_hashes", "4.7.1-1", "##"),
    ("plus_in_a_level", "4.7.1-2", "a/b+"),
    ("plus_before_a_name", "4.7.1-2", "+a/b"),
    ("two_pluses_in_a_level", "4.7.1-2", "a/++/b"),
    ("plus_and_hash", "4.7.1-2", "+#"),
    ("empty", "4.7.3-1", ""),
]
table(__file__, "filter", FILTERS, filter_refused)
table(__file__, "filter_3x", [(case, {"4.7.1-1": "4.7.1-2", "4.7.1-2": "4.7.1-3"}.get(ids, ids), f)
                              for case, ids, f in FILTERS], filter_refused, v="34")

SHARED = [
    ("share_without_group", "4.8.2-1", "$share//a"),
    ("share_without_filter", "4.8.2-2", "$share/g"),
    ("share_with_an_empty_filter", "4.8.2-2", "$share/g/"),
    ("share_alone", "4.8.2-1", "$share"),
    ("share_slash", "4.8.2-1", "$share/"),
    ("share_name_with_plus", "4.8.2-2", "$share/g+/a"),
    ("share_name_with_hash", "4.8.2-2", "$share/#/a"),
    ("share_with_a_bad_filter", "4.7.1-1", "$share/g/a/#/b"),
]


async def share_refused(t, topic_filter):
    conn = await t.connect()
    conn.send(subscribe(1, [(topic_filter, 0)], t.v))
    packet = await conn.recv()
    if packet.kind == wire.SUBACK:
        # A lone "$share" is a topic filter as others are: it only has no share name.
        check(packet.rcs == [INVALID] or (topic_filter == "$share" and packet.rcs == [0]), packet)
        await conn.ping()
    else:
        check(packet.kind == wire.DISCONNECT and packet.rc in (0x81, 0x82, INVALID), packet)
        await conn.expect_close()


table(__file__, "filter", SHARED, share_refused)

# Filter, topics it matches, topics it does not; all under a prefix of the row.
MATCHES = [
    ("exact", "4.7.3-4", "a/b", ["a/b"], ["a", "a/b/", "/a/b", "a/B", "a//b", "a/b/c"]),
    ("plus", "", "a/+", ["a/b", "a/", "a/B"], ["a", "a/b/c", "ab"]),
    ("plus_in_the_middle", "", "a/+/c", ["a/b/c", "a//c"], ["a/c", "a/b/b/c"]),
    ("plus_twice", "", "+/+", ["a/b", "/b", "a/", "/"], ["a", "a/b/c"]),
    ("hash", "", "a/#", ["a", "a/", "a/b", "a/b/c"], ["ab", "b/a"]),
    ("plus_and_hash", "", "+/b/#", ["a/b", "a/b/c", "/b"], ["a", "b", "a/c/b"]),
    ("empty_levels", "4.7.3-4", "a//b", ["a//b"], ["a/b", "a///b"]),
    ("case", "4.7.3-4", "Acc", ["Acc"], ["acc", "ACC"]),
    ("space", "4.7.3-4", "a b", ["a b"], ["ab", "a  b"]),
    ("unicode_is_not_normalized", "4.7.3-4", "\u00e9", ["\u00e9"], ["e\u0301"]),
    ("dollar_inside", "", "a/+/c", ["a/$x/c"], []),
]


async def matches(t, topic_filter, yes, no):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(topic_filter))
    pub = await t.connect("pub")
    for topic in no:
        await pub.publish(t.topic(topic), b"no")
    await pub.ping()
    for topic in yes:
        await pub.publish(t.topic(topic), b"yes")
    for topic in yes:
        await sub.message(t.topic(topic), b"yes")
    await sub.quiet()


table(__file__, "match", MATCHES, matches, v="5", s4="4.7.3-4 3.3.2-3", s5="3.3.2-3")
table(__file__, "match_3x", [(case, ids, *rest) for case, ids, *rest in MATCHES], matches, v="34", s4="3.3.2-3")


@row(v="345", s4="4.7.2-1", s5="4.7.2-1")
async def dollar_topics_need_a_literal_first_level(t):
    """`#`, `+/...` do not match a topic that begins with `$`; a filter that names the level does."""
    name = f"$test{t.key}"
    wild, named = await t.connect("wild"), await t.connect("named")
    await wild.subscribe("#", f"+/{t.key}")
    await named.subscribe(f"{name}/#")
    pub = await t.connect("pub")
    await pub.publish(f"{name}/{t.key}", b"hidden")
    await named.message(f"{name}/{t.key}", b"hidden")
    await pub.publish(f"seen/{t.key}", b"seen")
    await wild.ask(lambda p: p.payload == b"seen" and p.topic == f"seen/{t.key}", lambda p: p.payload == b"hidden")


@row(v="345", s4="4.7.3-3", s5="4.7.3-3")
async def long_topics(t):
    """The longest topic that a string can hold."""
    conn = await t.connect()
    topic = t.topic() + "/" + "x" * (65535 - len(t.topic()) - 1)
    await conn.subscribe(topic)
    conn.post(topic, b"long")
    await conn.message(topic, b"long")


@row(v="345")
async def slash_alone_is_a_topic(t):
    """`/` has two empty levels; `+/+` and `/+` match it, `+` does not."""
    one, two = await t.connect("one"), await t.connect("two")
    await one.subscribe("/+")
    await two.subscribe("/")
    pub = await t.connect("pub")
    await pub.publish("/", t.key.encode())
    await two.ask(lambda p: p.topic == "/" and p.payload == t.key.encode())
    await one.ask(lambda p: p.topic == "/" and p.payload == t.key.encode())


@row(v="345", profile="small")
async def too_many_levels(t):
    """max_topic_levels is 8 here: a filter and a topic name with nine are refused."""
    conn = await t.connect()
    ok, deep = f"{t.key}/2/3/4/5/6/7/8", f"{t.key}/2/3/4/5/6/7/8/9"
    await conn.subscribe(ok)
    conn.post(ok, b"eight")
    await conn.ask(lambda p: p.topic == ok)
    conn.send(subscribe(77, [(deep, 0)], t.v))
    packet = await conn.recv()
    if packet is not None and packet.kind == wire.SUBACK:
        check(packet.rcs == [INVALID if t.v == 5 else 0x80], packet)
    else:
        check(packet is None or packet.kind == wire.DISCONNECT, packet)
    pub = await t.connect("pub")
    pub.send(wire.publish(deep, b"nine", 1, 5, t.v))
    packet = await pub.recv()
    if packet is not None:
        check((packet.kind == wire.DISCONNECT and packet.rc == 0x90)
              or (packet.kind == wire.PUBACK and (t.v != 5 or packet.rc == 0x90)), packet)
