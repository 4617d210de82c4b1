"""What is done to nodes: each fault strikes, stays for a while, and is healed."""

import hashlib
import signal
import time
from dataclasses import dataclass, field

from place import Failed


@dataclass
class Fault:
    """`at` strikes a victim, `healed` takes it away. `out`: nodes that are not to serve meanwhile."""

    name: str
    strike: callable
    heal: callable
    # Shortest and longest time that it stays.
    stay: tuple = (1.0, 3.0)
    # The victim is out of the cluster: wills of its clients are due.
    fatal: bool = True
    # Its clients are on a node without a majority: nothing may be acknowledged.
    lonely: bool = False
    # All nodes are out.
    every: bool = False
    # Who is the victim: any node, or the one that leads.
    leader: bool | None = None
    needs: int = 3
    # Not every node can reach every other one: it is enough if a majority serves.
    partial: bool = False


@dataclass
class Round:
    """One fault as it happened."""

    name: str
    victim: str
    led: bool
    connack: float | None = None
    suback: float | None = None
    whole: float | None = None
    stalled: float = 0.0
    notes: list = field(default_factory=list)


def kill(cluster, victim):
    victim.kill()
    return [victim]


def start(_cluster, out):
    for node in out:
        if not node.lives():
            node.begin()


def kill_all(cluster, _victim):
    for node in cluster.nodes.values():
        node.kill()
    return list(cluster.nodes.values())


def stop(_cluster, victim):
    """SIGTERM, waited for."""
    victim.signal(signal.SIGTERM)
    code = victim.process.wait(40)
    if code != 0:
        raise Failed(f"{victim.name} ended with {code} on SIGTERM")
    return [victim]


def pause(_cluster, victim):
    victim.signal(signal.SIGSTOP)
    return [victim]


def go_on(_cluster, out):
    for node in out:
        node.signal(signal.SIGCONT)


def isolate(cluster, victim):
    victim.deaf([node.host for node in cluster.others(victim)])
    return [victim]


def halves(cluster, victim):
    """The victim and as many others as make a minority, cut off from the rest."""
    few = [victim, *cluster.others(victim)][:(len(cluster.nodes) - 1) // 2]
    for node in few:
        node.deaf([other.host for other in cluster.others(*few)])
    return few


def deaf(cluster, victim):
    """It is heard, and hears nothing."""
    victim.deaf([node.host for node in cluster.others(victim)], say=False)
    return [victim]


def mute(cluster, victim):
    """It hears, and is not heard."""
    victim.deaf([node.host for node in cluster.others(victim)], hear=False)
    return [victim]


def one_way(cluster, victim):
    """What it says to one other node is lost; everything else arrives."""
    victim.deaf([cluster.others(victim)[0].host], hear=False)
    return []


def roll(cluster, _victim):
    """All nodes, one after the other, each when the last one serves again: a new version, new settings."""
    for node in list(cluster.nodes.values()):
        stop(cluster, node)
        node.begin()
        cluster.whole(60)
    return []


def nothing(_cluster, _out):
    """It healed itself."""


def reset(_cluster, victim):
    victim.reset()
    return []


def joined(cluster, _out):
    for node in cluster.nodes.values():
        node.open_up()


def fill(_cluster, victim):
    victim.fill()
    return [victim]


def drain(cluster, out):
    for node in out:
        node.drain()
    # A node without a disk may end; its operator starts it again.
    start(cluster, out)


def damage(_cluster, victim):
    """A page of its log is zeroes when it comes back."""
    victim.kill()
    logs = sorted((victim.data_dir / "store" / "raft").rglob("*.raftlog"))
    if not logs:
        raise Failed(f"{victim.name} has no log to damage")
    size = logs[-1].stat().st_size
    with open(logs[-1], "r+b") as file:
        file.seek(max(0, size // 2 // 4096 * 4096))
        file.write(b"\0" * 4096)
    return [victim]


def replace(_cluster, out):
    """It must not come back as if nothing were missing: it says so, and its operator empties the directory."""
    for node in out:
        node.begin()
        end = time.monotonic() + 8
        while node.lives() and time.monotonic() < end:
            time.sleep(0.1)
        if not node.lives():
            for entry in list(node.data_dir.iterdir()):
                import shutil
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            node.begin()


def slow(milliseconds):
    """Each sync of the victim's disk takes so much longer."""
    def strike(_cluster, victim):
        victim.disk.ask(slow=milliseconds)
        return []
    return strike


def all_slow(cluster, _victim):
    for node in cluster.nodes.values():
        node.disk.ask(slow=300)
    return []


def unsynced(_cluster, victim):
    victim.disk.ask(sync=True)
    return [victim]


def unwritten(_cluster, victim):
    victim.disk.ask(write=True)
    return [victim]


def good_disks(cluster, _out):
    """Whatever was asked of a disk must have come about."""
    for node in cluster.nodes.values():
        if node.disk.asked and not node.disk.heal():
            raise Failed(f"{node.name}'s disk was neither slow nor did it fail")


def told(node):
    """A node whose disk failed does not serve and says why, on every surface."""
    end = time.monotonic() + 5
    while True:
        status = node.status()
        problem = status.get("problem") or ""
        said = {"cluster status": problem, "ctl status": node.ctl("status")[1], "/readyz": node.ready()[1],
                "the log": (node.dir / "stderr.log").read_text(errors="replace")}
        silent = [where for where, what in said.items() if "the disk failed" not in what]
        if not silent and status["state"] == "starting" and node.ready()[0] == 503 and all(
                word in problem for word in ("Input/output error", str(node.data_dir), "restart")):
            return
        if time.monotonic() > end:
            raise Failed(f"the disk of {node.name} failed; it is {status['state']} for {problem!r} and says nothing in {silent}")
        time.sleep(0.2)


def another_disk(cluster, out):
    """The disk is good again; what the node could not be sure of is read anew by a restart, and that is all it takes."""
    for node in out:
        told(node)
        good_disks(cluster, out)
        node.signal(signal.SIGTERM)
        node.process.wait(40)
        node.begin()


# Where the store of a node of a cluster lies in its data directory.
STORE = ("store/",)


def stands(directory):
    """What stands in a directory."""
    found = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        try:
            found[str(path.relative_to(directory))] = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            # A node that lives lets go of a file whenever it likes.
            pass
    return found


def bytes_of(path):
    """Its size; 0 if it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def unread(_cluster, victim):
    """It is killed, and when it starts one of its files cannot be read, each in turn: it says which one and changes
    nothing."""
    victim.kill()
    before = stands(victim.data_dir)
    refused = []
    for name in before:
        if not bytes_of(victim.data_dir / name):
            continue
        victim.disk.ask(read=True, part=name)
        errors = victim.dir / "stderr.log"
        behind = errors.stat().st_size
        victim.begin()
        end = time.monotonic() + 20
        while victim.lives() and not (victim.disk.struck() == 0 and "serves in the cluster" in said(errors, behind)):
            if time.monotonic() > end:
                raise Failed(f"{victim.name} goes on without {name}: {said(errors, behind)[-400:]}")
            time.sleep(0.05)
        if victim.lives():
            # Nobody reads this one.
            victim.signal(signal.SIGTERM)
            victim.process.wait(40)
            before = stands(victim.data_dir)
            continue
        if not victim.disk.heal():
            raise Failed(f"{victim.name} ended by itself: {said(errors, behind)[-400:]}")
        what = said(errors, behind)
        # What stands beside the store is read when the cluster is being heard of already.
        ours = name.startswith(STORE)
        for word in (name, "Input/output error", *(["nothing was changed", "start again"] if ours else [])):
            if word not in what:
                raise Failed(f"{victim.name} does not say {word!r} of a disk that cannot read {name}: {what[-600:]}")
        if "panicked at" in what:
            raise Failed(f"{victim.name} panics when {name} cannot be read: {what[-600:]}")
        after = stands(victim.data_dir)
        if ours and after != before:
            raise Failed(f"{victim.name} could not read {name} and changed {sorted(set(after.items()) ^ set(before.items()))}")
        before = after
        refused.append(name)
    victim.disk.ask()
    if not any(name.endswith(".raftlog") for name in refused) or not any("snapshot" in name for name in refused):
        raise Failed(f"{victim.name} read neither its log nor its snapshot: only {refused}")
    return [victim]


def said(errors, behind):
    with open(errors, "rb") as file:
        file.seek(behind)
        return file.read().decode(errors="replace")


def unread_log(cluster, victim):
    """The leader cannot read what a node needs that was away. All have just been started: nothing is in memory."""
    rest = cluster.others(victim)
    victim.kill()
    time.sleep(1.0)
    for node in rest:
        stop(cluster, node)
        node.begin()
    cluster.whole(30, rest)
    leader = cluster.leader()
    leader.disk.ask(read=True, part=".raftlog")
    victim.begin()
    end = time.monotonic() + 10
    while not leader.disk.struck():
        if time.monotonic() > end:
            raise Failed(f"{leader.name} leads and does not read what {victim.name} needs")
        time.sleep(0.05)
    return [leader]


FAULTS = [
    Fault("kill the leader", kill, start, (7.0, 9.0), leader=True),
    Fault("kill a follower", kill, start, (7.0, 9.0), leader=False),
    Fault("isolate the leader", isolate, joined, (9.0, 11.0), lonely=True, leader=True),
    Fault("isolate a follower", isolate, joined, (9.0, 11.0), lonely=True, leader=False),
    Fault("pause the leader", pause, go_on, (8.0, 10.0), leader=True),
    Fault("restart a node", stop, start, (0.1, 0.5), fatal=False),
    Fault("kill and start at once", kill, start, (0.1, 1.0), fatal=False),
    Fault("kill all", kill_all, start, (0.2, 1.0), every=True, fatal=False),
    Fault("reset its links", reset, joined, (0.3, 1.0), fatal=False),
    Fault("the leader hears nothing", deaf, joined, (9.0, 11.0), lonely=True, leader=True),
    Fault("the leader is not heard", mute, joined, (9.0, 11.0), lonely=True, leader=True),
    Fault("a follower hears nothing", deaf, joined, (9.0, 11.0), lonely=True, leader=False),
    Fault("a follower is not heard", mute, joined, (9.0, 11.0), lonely=True, leader=False),
    Fault("one way lost between two", one_way, joined, (11.0, 14.0), fatal=False, partial=True),
    Fault("rolling restart", roll, nothing, (0.1, 0.5), fatal=False),
    Fault("pause for a moment", pause, go_on, (0.5, 2.5), fatal=False),
    Fault("the disk is full", fill, drain, (4.0, 8.0), fatal=False, leader=False),
    Fault("the leader's disk is full", fill, drain, (4.0, 8.0), fatal=False, leader=True),
    Fault("a zeroed page of the log", damage, replace, (7.0, 9.0), leader=False),
    Fault("a follower's disk is slow", slow(2000), good_disks, (8.0, 10.0), fatal=False, leader=False),
    Fault("the leader's disk is slow", slow(2000), good_disks, (8.0, 10.0), fatal=False, leader=True),
    Fault("all disks are slow", all_slow, good_disks, (6.0, 8.0), fatal=False),
    Fault("a follower's disk does not sync", unsynced, another_disk, (7.0, 9.0), leader=False),
    Fault("the leader's disk does not sync", unsynced, another_disk, (7.0, 9.0), leader=True),
    Fault("a follower's disk takes no writes", unwritten, another_disk, (7.0, 9.0), leader=False),
    Fault("the leader's disk takes no writes", unwritten, another_disk, (7.0, 9.0), leader=True),
    Fault("the leader's disk does not read", unread_log, another_disk, (7.0, 9.0), fatal=False, leader=False),
    Fault("a disk does not read at the start", unread, start, (2.0, 4.0), fatal=False, leader=False),
    Fault("halves", halves, joined, (9.0, 11.0), lonely=True, needs=5),
]
# In the short run, one of each kind that takes another way through the code.
SHORT = ["kill the leader", "isolate the leader", "pause the leader", "restart a node", "the leader hears nothing",
         "reset its links", "kill all", "rolling restart", "one way lost between two", "a follower is not heard",
         "the disk is full", "the leader's disk is full", "kill and start at once", "the leader's disk does not sync",
         "a follower's disk is slow"]
