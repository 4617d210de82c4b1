"""What is done to nodes: each fault strikes, stays for a while, and is healed."""

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
    Fault("halves", halves, joined, (9.0, 11.0), lonely=True, needs=5),
]
# In the short run, one of each kind that takes another way through the code.
SHORT = ["kill the leader", "isolate the leader", "pause the leader", "restart a node", "the leader hears nothing",
         "reset its links", "kill all", "rolling restart", "one way lost between two", "a follower is not heard",
         "the disk is full", "the leader's disk is full", "kill and start at once"]
