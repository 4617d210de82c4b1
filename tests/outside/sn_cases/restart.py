"""Over restarts, clean and by kill -9: topic maps, sleeping sessions, buffers, wills (needs durability)."""

import contextlib
import time

import sn_client as sn
from harness import case, check, expect, listener, quiet, receives, refused, running
from sn_client import Will



@contextlib.contextmanager
def lasting(t, settings=""):
    """A broker whose MQTT-SN port stays over restarts."""
    from exact import sn_port

    port = sn_port()
    with running(t.binary, listener("default", settings, bind=f"127.0.0.1:{port}")) as broker:
        yield broker


def kill_and_start(broker):
    broker.kill()
    broker.start()


@case("6.14-1", "7.3-2", profile="own", slow=True)
def kill_9_keeps_topic_map_subscription_and_buffer_of_a_sleeper(t):
    with lasting(t) as broker:
        c = t.connected(broker=broker, clean=False, duration=600)
        c.subscribe(t.topic("#"), qos=1)
        known = c.register(t.topic("known"))
        c.sleep(600)
        m = t.mqtt(broker=broker)
        for i in range(20):
            m.publish(t.topic(f"{i % 3}"), b"%d" % i, 1)
        kill_and_start(broker)
        got = c.wake()
        check([one.data for one in got] == [b"%d" % i for i in range(20)], got)
        c.connect(clean=False)
        watch = t.watcher(t.topic("known"), broker=broker)
        c.publish(known, b"by its old id", qos=1)
        watch.expect(t.topic("known"), b"by its old id")


@case("6.14-8", profile="own", slow=True)
def kill_9_keeps_the_will_of_a_sleeper(t):
    with lasting(t) as broker:
        c = t.connected(broker=broker, clean=False, will=Will(t.topic("will"), b"gone", 1))
        c.sleep(2)
        kill_and_start(broker)
        watch = t.watcher(t.topic("will"), broker=broker)
        watch.expect(t.topic("will"), b"gone")
        time.sleep(2)
        check(not watch.messages(), "the will came twice")


@case("6.14-8", profile="own", slow=True)
def kill_9_and_a_sleeper_that_comes_back_has_no_will(t):
    with lasting(t) as broker:
        c = t.connected(broker=broker, clean=False, will=Will(t.topic("will"), b"gone", 1))
        c.sleep(4)
        kill_and_start(broker)
        watch = t.watcher(t.topic("will"), broker=broker)
        for _ in range(3):
            time.sleep(1.5)
            c.wake()
        check(not watch.messages(0.2), "a will though it woke")


@case("6.14-1", profile="own", slow=True)
def kill_9_keeps_a_sleeper_with_a_clean_session(t):
    """Durable from the DISCONNECT with duration on."""
    with lasting(t) as broker:
        c = t.connected(broker=broker, clean=True)
        c.subscribe(t.topic(), qos=1)
        c.sleep(600)
        t.mqtt(broker=broker).publish(t.topic(), b"kept", 1)
        kill_and_start(broker)
        check([one.data for one in c.wake()] == [b"kept"], "the buffer")


@case("6.12-2", profile="own", slow=True)
def kill_9_keeps_a_disconnected_session(t):
    with lasting(t) as broker:
        c = t.connected(broker=broker, clean=False)
        topic_id = c.subscribe(t.topic(), qos=1).topic_id
        c.disconnect()
        t.mqtt(broker=broker).publish(t.topic(), b"kept", 1)
        kill_and_start(broker)
        c.connect(clean=False)
        got = expect(c, sn.PUBLISH)
        check((got.topic, got.data) == (topic_id, b"kept"), got)
        c._handle(got)


@case("6.12-3", profile="own", slow=True)
def after_kill_9_an_active_client_is_told_to_connect_again(t):
    """And finds what was acknowledged before."""
    with lasting(t) as broker:
        c = t.connected(broker=broker, clean=False, will=Will(t.topic("will"), b"gone"))
        c.subscribe(t.topic(), qos=1)
        kill_and_start(broker)
        c.send(sn.pingreq())
        expect(c, sn.DISCONNECT)
        c.connect(clean=False)
        t.mqtt(broker=broker).publish(t.topic(), b"there", 1)
        receives(c, t.topic(), b"there")


@case("6.6-3", profile="own", slow=True)
def kill_9_between_publish_and_pubrel_delivers_once(t):
    with lasting(t) as broker:
        keeper = t.mqtt("keeper", v=4, broker=broker, clean=False)
        keeper.subscribe(t.topic("up"), 2)
        c = t.connected(broker=broker, clean=False, duration=600)
        up = c.register(t.topic("up"))
        c.send(sn.publish(up, b"once", qos=2, msg_id=11))
        expect(c, sn.PUBREC)
        kill_and_start(broker)
        c.connect(clean=False, duration=601)
        c.send(sn.publish(up, b"once", qos=2, dup=True, msg_id=11))
        expect(c, sn.PUBREC)
        c.send(sn.with_msg_id(sn.PUBREL, 11))
        expect(c, sn.PUBCOMP)
        again = t.mqtt("keeper", v=4, broker=broker, clean=False)
        got = again.messages(1.0) + [(p.topic, p.payload) for p in keeper.inbox]
        check(got.count((t.topic("up"), b"once")) == 1, got)


@case("6.12-2", profile="own", slow=True)
def a_clean_end_keeps_sleepers_too(t):
    with lasting(t) as broker:
        c = t.connected(broker=broker, clean=False, will=Will(t.topic("will"), b"gone"))
        c.subscribe(t.topic(), qos=1)
        c.sleep(600)
        check(broker.stop() == 0, "exit code")
        broker.start()
        t.mqtt(broker=broker).publish(t.topic(), b"kept", 1)
        check([one.data for one in c.wake()] == [b"kept"], "the buffer")
        quiet(c)


@case("6.7-3", profile="own")
def predefined_topics_are_reloaded_without_a_restart(t):
    import signal

    with lasting(t) as broker:
        c = t.connected(broker=broker)
        refused(sn.INVALID_TOPIC_ID, c.publish, sn.Predefined(2001), b"x", qos=1)
        config = broker.dir / "nightjar.toml"
        config.write_text(config.read_text() +
                          '\n[[listeners.mqttsn.default.predefined]]\nid = 2001\ntopic = "pre/new"\n')
        watch = t.watcher("pre/new", broker=broker)
        broker.process.send_signal(signal.SIGHUP)
        for _ in range(50):
            try:
                c.publish(sn.Predefined(2001), b"x", qos=1)
                break
            except sn.Refused:
                time.sleep(0.1)
        watch.expect("pre/new", b"x")
