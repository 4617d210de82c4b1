"""Stopping and starting one MQTT-SN listener: `ctl listeners stop|start`."""

import sn_client as sn
from harness import case, check, expect, listener, receives, running, until
from sn_client import Will

TWO = listener("default", "") + listener("other", "")


@case("6.14-1", "6.12-2", profile="own")
def a_stopped_listener_sends_its_clients_away_and_keeps_its_sleepers(t):
    with running(t.binary, TWO) as broker:
        watch = t.watcher(t.topic("will"), broker=broker)
        c = t.connected("c", broker=broker, clean=False, duration=600, will=Will(t.topic("will"), b"gone", 1))
        s = t.connected("s", broker=broker, clean=False, duration=600, will=Will(t.topic("will"), b"gone", 1))
        other = t.connected("o", "other", broker=broker)
        for one in (c, s):
            one.subscribe(t.topic(), qos=1)
        topic_id = s.ids[t.topic()]
        s.sleep(600)
        t.ctl(broker, "listeners", "stop", "mqttsn:default")
        expect(c, sn.DISCONNECT)
        m = t.mqtt(broker=broker)
        m.publish(t.topic(), b"meanwhile", 1)
        other.ping()
        asker = t.stranger(broker=broker)
        asker.send(sn.searchgw())
        try:
            check(asker.receive() is None, "a stopped listener answers")
        except ConnectionRefusedError:
            pass
        t.ctl(broker, "listeners", "start", "mqttsn:default")
        check(asker.ask(sn.searchgw()).type == sn.GWINFO, "GWINFO")
        got = s.wake()
        check([(one.topic, one.data) for one in got] == [(t.topic(), b"meanwhile")], got)
        check(s.ids[t.topic()] == topic_id, "the topic id")
        c.connect(clean=False, will_flag=False)
        receives(c, t.topic(), b"meanwhile")
        check(not watch.messages(), "a will")


@case("6.2-1", profile="own")
def stop_and_start_say_what_is_wrong(t):
    with running(t.binary, TWO) as broker:
        for words, wrong in ((("stop", "mqttsn:none"), "mqttsn:none"), (("start", "mqttsn:default"), "mqttsn:default")):
            done = t.ctl(broker, "listeners", *words, ok=False)
            check(done.returncode != 0 and wrong in done.stderr, done)
        for _ in range(2):  # stopped is stopped
            t.ctl(broker, "listeners", "stop", "mqttsn:default")
        for _ in range(3):
            t.ctl(broker, "listeners", "start", "mqttsn:default")
            t.connected("c", broker=broker).ping()
            t.ctl(broker, "listeners", "stop", "mqttsn:default")


@case("6.6-2", profile="own")
def a_trace_follows_a_sensor(t):
    """What its messages say and about which topic, asleep too; never what their data holds."""
    with running(t.binary, TWO) as broker:
        t.ctl(broker, "trace", "start", "--client", t.id("c"), "--name", "one")
        t.ctl(broker, "trace", "start", "--topic", t.topic("#"), "--name", "about")
        other = t.connected("o", broker=broker)
        c = t.connected("c", broker=broker, clean=False)
        c.subscribe(t.topic("down"), qos=1)
        c.publish(t.topic("up"), b"secret", qos=1)
        other.publish(t.topic("down"), b"secret", qos=1)
        receives(c, t.topic("down"), b"secret")
        c.sleep(60)
        other.publish(t.topic("down"), b"secret", qos=1)
        c.wake()
        c.disconnect()

        def lines(name):
            files = [one for one in (broker.data_dir / "trace").rglob("*") if one.is_file() and name in one.name]
            return "".join(one.read_text() for one in files)

        until("the end", lambda: lines("one").count("DISCONNECT sent") == 2, 20)
        one, about = lines("one"), lines("about")
        for what in ("CONNECT received: CleanSession false", "CONNACK sent: accepted",
                     f"SUBSCRIBE received: {t.topic('down')}", f"PUBLISH received: {t.topic('up')}", "PUBACK sent: topic id",
                     f"PUBLISH sent: {t.topic('down')}", "DISCONNECT received: for 60 s", "PINGREQ received",
                     "PINGRESP sent"):
            check(what in one, (what, one))
        check(f"[{t.id('o')}]" not in one and f"[{t.id('o')}]" in about, "whose lines")
        check("secret" not in one + about, "the data")
        for way, topic in (("received", "up"), ("received", "down"), ("sent", "down")):
            check(f"PUBLISH {way}: {t.topic(topic)}" in about, (way, about))
