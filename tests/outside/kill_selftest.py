#!/usr/bin/env python3
"""The checker of the kill loop against histories that are right, and each with one thing wrong."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "kill"))

from history import History, Reading, Receipt, Subscription, Will, body, ident_of, matches  # noqa: E402


def right():
    """Two publishers, two sessions, one will, one retained topic; nothing wrong."""
    h = History()
    h.subscribed["one"].append(Subscription("d/#", 1, 0.0))
    h.subscribed["two"].append(Subscription("d/#", 2, 0.0))
    h.subscribed["two"].append(Subscription("w/#", 2, 0.0))
    for number in range(1, 6):
        ident = f"p-{number}"
        h.publishing(ident, "p", number, "d/p/0", 2)
        h.acknowledged(ident)
        for session, qos in (("one", 1), ("two", 2)):
            h.received[session].append(Receipt(ident, "d/p/0", qos, False, 1, 5.0))
    h.wills["w1"] = Will("w1", "w/a", 1.0, "killed", 2.0, 3.0)
    h.received["two"].append(Receipt("w1", "w/a", 1, False, 2, 4.0))
    h.wills["w2"] = Will("w2", "w/b", 1.0, "disconnected", 2.0)
    h.retained["r/0"] = ["r-1", "r-2", None]
    h.readings.append(Reading({"r/0": "r-2"}, {"r/0": 1}, {"r/0": 2}))
    h.toggled[("t", "x/0")] = True
    h.toggled[("t", "x/1")] = False
    h.toggled[("t", "x/2")] = None
    h.probed = {("t", "x/0"), ("t", "x/2")}
    return h


def drop(h):
    h.received["one"].pop(2)


def twice_qos2(h):
    h.received["two"].append(Receipt("p-5", "d/p/0", 2, True, 2, 6.0))


def invented(h):
    h.received["one"].append(Receipt("p-99", "d/p/0", 1, False, 1, 6.0))


def damaged(h):
    h.received["one"].append(Receipt(ident_of(body("p-1", 40)[:-1] + b"!"), "d/p/0", 1, False, 1, 6.0))


def swapped(h):
    r = h.received["one"]
    r[1], r[2] = r[2], r[1]


def again_without_dup(h):
    h.received["one"].append(Receipt("p-5", "d/p/0", 1, False, 1, 6.0))


def stale_retained(h):
    h.readings.append(Reading({"r/0": "r-1"}, {"r/0": 2}, {"r/0": 2}))


def deleted_retained(h):
    h.readings.append(Reading({"r/0": "r-2"}, {"r/0": 3}, {"r/0": 3}))


def lost_retained(h):
    h.readings.append(Reading({}, {"r/0": 2}, {"r/0": 2}))


def lost_session(h):
    h.session_lost("one")


def lost_subscription(h):
    h.probed.discard(("t", "x/0"))


def risen_subscription(h):
    h.probed.add(("t", "x/1"))


def lost_will(h):
    h.received["two"].pop()


def late_will(h):
    h.received["two"][-1].at = 100.0


def will_after_disconnect(h):
    h.received["two"].append(Receipt("w2", "w/b", 1, False, 2, 4.0))


WRONG = {
    "I1": [drop], "I2": [twice_qos2], "I3": [invented, damaged], "I4": [swapped, again_without_dup],
    "I5": [stale_retained, deleted_retained, lost_retained],
    "I6": [lost_session, lost_subscription, risen_subscription], "I8": [lost_will, late_will, will_after_disconnect],
}


def main():
    found = right().check()
    assert not found, found
    # A repeat with DUP, or in another connection, is no violation with QoS 1.
    h = right()
    h.received["one"].append(Receipt("p-5", "d/p/0", 1, True, 1, 6.0))
    h.received["one"].append(Receipt("p-5", "d/p/0", 1, False, 2, 7.0))
    assert not h.check(), h.check()
    # What was not acknowledged may come or not.
    h = right()
    h.publishing("p-6", "p", 6, "d/p/0", 2)
    assert not h.check(), h.check()
    for kind, faults in WRONG.items():
        for fault in faults:
            h = right()
            fault(h)
            found = h.check()
            assert found and all(line.startswith(kind) for line in found), (fault.__name__, found)
    assert matches("d/#", "d/p/0") and matches("d/+/0", "d/p/0") and not matches("d/+", "d/p/0")
    print("the checker finds every fault it should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
