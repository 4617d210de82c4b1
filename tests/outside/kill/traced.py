#!/usr/bin/env python3
"""Shows with strace that no PUBACK leaves before the disk has its message.

    tests/outside/kill/traced.py [--bin target/debug/nightjar] [--messages 200]

For each PUBACK: the log's file was written with the message's bytes, then an fdatasync of that file began, and it
returned 0, before the write that carries the PUBACK began. The order is that of the trace: a thread goes on only when
strace has seen the end of its call. The same with durability = "async", which does not wait for the disk, must be
found out. Last line: `N passed, N failed, N skipped`.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parent / "raw"))

import wire  # noqa: E402
from broker import Broker, BrokerError  # noqa: E402
from kill_clients import Gone, Link  # noqa: E402
from results import Results  # noqa: E402

WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg")
SYNCS = ("fsync", "fdatasync")
NAME = "traced/each PUBACK leaves after the fdatasync that covers its message"
TEETH = "traced/acknowledgements that do not wait for the disk are found out"


class TracedBroker(Broker):
    """A broker under strace."""

    def __init__(self, binary, durability):
        super().__init__("nightjar", binary)
        self.durability = durability
        self.trace = self.dir / "trace"

    def config(self):
        return f'durability = "{self.durability}"\n' + super().config()

    def _spawn(self, command):
        calls = ",".join(WRITES + SYNCS)
        super()._spawn(["strace", "-f", "-yy", "-xx", "-s", "1000000", "-e", f"trace={calls}", "-e", "signal=none",
                        "-o", str(self.trace), *command])

    def broker_pid(self):
        """Of the broker, not of strace."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])


def allowed():
    """None, or why there can be no trace."""
    if not shutil.which("strace"):
        return "strace is not installed (Debian package strace)"
    try:
        done = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True, timeout=20,
                              check=False)
    except subprocess.TimeoutExpired:
        return "strace hangs here"
    return None if done.returncode == 0 else f"ptrace is not allowed here: {done.stderr.strip()[:100]}"


class Call:
    """One system call: where in the trace it began and ended."""

    def __init__(self, name, begin):
        self.name, self.begin, self.end = name, begin, None
        self.text, self.result = "", None

    def target(self):
        """What is behind its descriptor: a path or a socket."""
        found = re.match(r"\d+<(.*?)>(?=[,)\s]|$)", self.text)
        return bytes(found.group(1), "latin-1").decode("unicode_escape") if found else ""

    def data(self):
        return b"".join(bytes.fromhex(piece.replace("\\x", "")) for piece in
                        re.findall(r'"((?:\\x[0-9a-f]{2})*)"', self.text))


def calls(path):
    """The calls of a trace, with the lines where each began and ended."""
    found, open_calls = [], {}
    for at, line in enumerate(path.read_text(errors="replace").splitlines()):
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        resumed = re.match(r"<\.\.\. (\w+) resumed>(.*)", rest)
        if resumed:
            call = open_calls.pop(pid, None)
            if call is None or call.name != resumed.group(1):
                continue
            call.text += resumed.group(2)
        else:
            started = re.match(r"(\w+)\((.*)", rest)
            if not started:
                continue
            call = Call(started.group(1), at)
            call.text = started.group(2)
            found.append(call)
            if call.text.endswith("<unfinished ...>"):
                call.text = call.text[:-len("<unfinished ...>")]
                open_calls[pid] = call
                continue
        call.end = at
        result = re.search(r"= (-?\d+)[^=]*$", call.text)
        call.result = int(result.group(1)) if result else None
    return found


def uncovered(found, port, messages):
    """The packet ids whose PUBACK is not covered, each with the reason; `messages` maps packet id to bytes."""
    log_writes = [c for c in found if c.name in WRITES and ".raftlog" in c.target() and (c.result or 0) > 0]
    syncs = [c for c in found if c.name in SYNCS and ".raftlog" in c.target() and c.result == 0]
    acked = {}
    for call in found:
        if call.name in WRITES and f"->127.0.0.1:{port}]" in call.target():
            data = call.data()
            at = 0
            while at + 4 <= len(data):
                if data[at] == 0x40 and data[at + 1] == 2:
                    acked.setdefault(int.from_bytes(data[at + 2:at + 4], "big"), call.begin)
                    at += 4
                else:
                    at += 2 + data[at + 1]
    wrong = {}
    for pid, needle in messages.items():
        if pid not in acked:
            wrong[pid] = "no PUBACK in the trace"
            continue
        written = [w for w in log_writes if w.end is not None and needle in w.data()]
        if not written:
            wrong[pid] = "its bytes were never written to the log"
        elif not any(s.begin > w.end and s.target() == w.target() and s.end < acked[pid]
                     for w in written for s in syncs if s.end is not None):
            wrong[pid] = "no fdatasync of the log between its write and the PUBACK"
    return wrong


def traced_run(binary, durability, count):
    """(uncovered packet ids with reasons, fdatasyncs of the log) of one traced broker."""
    broker = TracedBroker(binary, durability)
    try:
        broker.start()
        port = broker.port("tcp")
        subscriber = Link(port, "sub", 4, clean=False)
        subscriber.send(wire.subscribe(1, [("t", 1)], 4))
        subscriber.packet()
        subscriber.close()
        publisher = Link(port, "pub", 4, clean=True)
        own = publisher.sock.getsockname()[1]
        messages = {}
        window = 0
        for pid in range(1, count + 1):
            messages[pid] = f"message-{pid:06}-of-the-trace".encode()
            publisher.send(wire.publish("t", messages[pid], 1, pid, 4))
            window += 1
            # From one at a time to bursts that share a sync.
            while window > pid % 12:
                publisher.packet()
                window -= 1
        while window:
            publisher.packet()
            window -= 1
        publisher.close()
        os.kill(broker.broker_pid(), 15)
        broker.process.wait(20)
        found = calls(broker.trace)
        syncs = sum(1 for c in found if c.name in SYNCS and ".raftlog" in c.target())
        return uncovered(found, own, messages), syncs
    finally:
        if broker.alive():
            try:
                os.kill(broker.broker_pid(), 9)
            except (OSError, IndexError):
                pass
        broker.remove()


def cases(binary, count, results):
    """Both runs, into `results`."""
    why = allowed()
    if why:
        results.skip(NAME, why)
        results.skip(TEETH, why)
        return
    for name, durability in ((NAME, "sync"), (TEETH, "async")):
        begin = time.monotonic()
        try:
            wrong, syncs = traced_run(binary, durability, count)
        except (Gone, BrokerError, subprocess.TimeoutExpired, OSError) as e:
            results.fail(name, f"{type(e).__name__}: {e}")
            continue
        took = time.monotonic() - begin
        print(f"      durability {durability}: {count - len(wrong)} of {count} PUBACKs covered, {syncs} syncs of the log")
        if durability == "sync" and wrong:
            results.fail(name, f"{len(wrong)} of {count}: {sorted(wrong.items())[:3]}", took)
        elif durability == "async" and len(wrong) < count // 2:
            results.fail(name, f"only {len(wrong)} of {count} were found out", took)
        else:
            results.ok(name, took)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default="target/debug/nightjar")
    p.add_argument("--messages", type=int, default=200)
    args = p.parse_args()
    results = Results(ci=os.environ.get("CI") == "true")
    cases(os.path.abspath(args.bin), args.messages, results)
    return results.close("traced broker")


if __name__ == "__main__":
    sys.exit(main())
