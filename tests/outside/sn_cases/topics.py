"""Topic ids: registered, predefined, short (sections 6.5, 6.7, 7.3)."""

import sn_client as sn
from harness import case, check, expect, quiet, receives, refused
from sn_client import Predefined, Short


@case("6.5-1", "6.5-6", "6.13-5")
def the_same_name_gets_the_same_id(t):
    c = t.connected()
    topic_id = c.register(t.topic())
    check(c.register(t.topic()) == topic_id, "another id")
    check(c.subscribe(t.topic()).topic_id == topic_id, "SUBACK has another id")
    for _ in range(3):
        c.send(sn.register(t.topic(), 99))
        regack = expect(c, sn.REGACK)
        check((regack.topic_id, regack.msg_id, regack.code) == (topic_id, 99, 0), regack)


@case("6.5-2")
def a_wildcard_gets_no_id(t):
    c = t.connected()
    for name in ("a/+", "#", "a/#", "+"):
        refused(sn.NOT_SUPPORTED, c.register, name)


@case("5.3.11-1", slow=True)
def ids_0_and_ffff_are_given_to_no_topic(t):
    c = t.connected()
    ids = [c.register(t.topic(str(i))) for i in range(600)]
    check(len(set(ids)) == 600, "an id twice")
    check(not {0, 0xFFFF} & set(ids), "a reserved id")


@case("5.4.10-2")
def the_topic_id_of_a_client_s_register_is_not_looked_at(t):
    c = t.connected()
    topic_id = c.register(t.topic())
    c.send(sn.register(t.topic("b"), 5, topic_id=topic_id))
    regack = expect(c, sn.REGACK)
    check(regack.code == 0 and regack.topic_id != topic_id, regack)


@case("5.3.7-1")
def answers_have_the_msg_id_of_the_question(t):
    c = t.connected()
    topic_id = c.register(t.topic())
    for msg_id in (1, 0x1234, 0xFFFF):
        for ask, answer in ((sn.register(t.topic(), msg_id), sn.REGACK),
                            (sn.subscribe(t.topic("s"), msg_id), sn.SUBACK),
                            (sn.unsubscribe(t.topic("s"), msg_id), sn.UNSUBACK),
                            (sn.publish(topic_id, b"x", qos=1, msg_id=msg_id), sn.PUBACK),
                            (sn.publish(topic_id, b"x", qos=2, msg_id=msg_id), sn.PUBREC),
                            (sn.with_msg_id(sn.PUBREL, msg_id), sn.PUBCOMP)):
            c.send(ask)
            got = expect(c, answer)
            check(got.msg_id == msg_id, f"{got} to MsgId {msg_id}")


@case("5.3.7-3")
def msg_ids_of_the_two_directions_are_independent(t):
    """The gateway's open MsgId, used by the client for a message of its own."""
    c, watch = t.connected(), t.watcher(t.topic("up"))
    c.subscribe(t.topic("down"), qos=1)
    up = c.register(t.topic("up"))
    t.mqtt().publish(t.topic("down"), b"down", 1)
    down = expect(c, sn.PUBLISH)
    c.send(sn.publish(up, b"up", qos=1, msg_id=down.msg_id))
    check(expect(c, sn.PUBACK).code == 0, "PUBACK")
    watch.expect(t.topic("up"), b"up")
    c._handle(down)
    c.ping()


@case("5.3.7-2", "6.10-4", "6.5-5")
def one_exchange_is_open_at_a_time(t):
    """PUBLISH of QoS 1 and REGISTER wait for one another, and QoS 0 waits behind them. In which order messages of different
    topics and QoS come is the broker's choice."""
    c, m = t.connected(), t.mqtt()
    c.subscribe(t.topic("+"), qos=1)
    for i in range(3):
        m.publish(t.topic(str(i)), b"%d" % i, i % 2)
    m.ping()
    last, came = None, []
    for _ in range(3):
        asked = expect(c, sn.REGISTER)
        quiet(c, 0.2)
        check(asked.msg_id != last, "the MsgId again")
        c._handle(asked)
        got = expect(c, sn.PUBLISH)
        check(got.qos == int(got.data) % 2, got)
        if got.qos:
            quiet(c, 0.2)
        c._handle(got)
        last = asked.msg_id
        came.append(got.data)
    check(sorted(came) == [b"0", b"1", b"2"] and came.index(b"0") < came.index(b"2"), came)


@case("5.4.12-2")
def msg_id_of_a_qos_0_publish_is_0(t):
    c = t.connected()
    c.subscribe(t.topic(), qos=0)
    t.mqtt().publish(t.topic(), b"x", 1)
    got = expect(c, sn.PUBLISH)
    check((got.qos, got.msg_id) == (0, 0), got)


@case("6.7-1", "6.7-2")
def a_predefined_id_needs_no_register_in_either_direction(t):
    topic = f"pre/of/{t.id('c')}"
    c, watch = t.connected(), t.watcher(topic)
    c.publish(Predefined(1002), b"up", qos=1)
    watch.expect(topic, b"up")
    quiet(c)  # not subscribed yet
    suback = c.subscribe(Predefined(1002), qos=1)
    check(suback.topic_id in (0, 1002), suback)
    t.mqtt().publish(topic, b"down", 1)
    receives(c, Predefined(1002), b"down")
    check(not c.received(sn.REGISTER), "REGISTER")


@case("6.7-1")
def a_predefined_id_goes_down_for_a_filter_with_wildcards_too(t):
    c = t.connected()
    c.subscribe("pre/of/+", qos=1)
    t.mqtt().publish(f"pre/of/{t.id('c')}", b"x", 1)
    for _ in range(10):
        got = c.receive(5)
        check(got is not None, "it did not come")
        if got.topic == Predefined(1002):
            return
    check(False, "not by its predefined id")


@case("6.7-3")
def an_unknown_predefined_id_is_an_invalid_topic_id(t):
    c = t.connected()
    refused(sn.INVALID_TOPIC_ID, c.subscribe, Predefined(77))
    refused(sn.INVALID_TOPIC_ID, c.publish, Predefined(77), b"x", qos=1)
    # Known to clients of another pattern only.
    refused(sn.INVALID_TOPIC_ID, c.publish, Predefined(1003), b"x", qos=1)
    t.connected("special").publish(Predefined(1003), b"x", qos=1)


@case("6.7-4", "5.4.16-2")
def a_short_name_is_the_topic_name(t):
    name = b"%c%c" % (65 + t.number % 26, 97 + t.number // 26 % 26)
    c, watch, m = t.connected(), t.watcher(name.decode()), t.mqtt()
    c.publish(Short(name), b"up", qos=1)
    watch.expect(name.decode(), b"up")
    check(c.subscribe(Short(name), qos=1).topic_id == 0, "an id")
    m.publish(name.decode(), b"down", 1)
    receives(c, Short(name), b"down")
    check(not c.received(sn.REGISTER), "REGISTER")


@case("6.7-5")
def a_normal_and_a_predefined_id_of_one_number_are_two_topics(t):
    c = t.connected()
    one, pre = t.watcher(t.topic("#")), t.watcher("pre/one", who="p")
    topic_id = c.register(t.topic("normal"))
    while topic_id != 1 and topic_id < 3:
        topic_id = c.register(t.topic(f"normal{topic_id}"))
    c.publish(Predefined(1), t.name.encode(), qos=1)
    while (got := pre.message()).payload != t.name.encode():
        pass
    check(got.topic == "pre/one", got)
    c.publish(topic_id, b"normal", qos=1)
    check(one.message().payload == b"normal", "the predefined topic")


@case("7.3-1")
def an_id_of_one_client_means_nothing_to_another(t):
    a, b = t.connected("a"), t.connected("b")
    topic_id = max(a.register(t.topic(str(i))) for i in range(3))
    refused(sn.INVALID_TOPIC_ID, b.publish, topic_id, b"x", qos=1)


@case("7.3-2")
def the_map_survives_sleep_and_with_clean_session_0_the_connection(t):
    watch = t.watcher(t.topic())
    c = t.connected(clean=False)
    topic_id = c.register(t.topic())
    c.sleep(30)
    c.connect(clean=False, duration=61)
    c.publish(topic_id, b"after sleep", qos=1)
    watch.expect(t.topic(), b"after sleep")
    c.disconnect()
    c.connect(clean=False, duration=62)
    c.publish(topic_id, b"after all", qos=1)
    watch.expect(t.topic(), b"after all")
    c.disconnect()
    c.connect(clean=True, duration=63)
    refused(sn.INVALID_TOPIC_ID, c.publish, topic_id, b"wiped", qos=1)


@case("6.5-2")
def names_that_are_no_topic_are_refused(t):
    c = t.connected()
    refused(sn.NOT_SUPPORTED, c.register, "")
    refused(sn.NOT_SUPPORTED, c.register, "a\0b")
