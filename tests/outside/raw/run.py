#!/usr/bin/env python3
"""Runs the raw-bytes tests: rows of packets against the broker, many at once.

    tests/outside/raw/run.py [--bin target/debug/nightjar] [--broker mosquitto] [--only TEXT] [--list]

Last line: `N passed, N failed, N skipped`.
"""

import argparse
import asyncio
import fnmatch
import importlib
import os
import pathlib
import signal
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import rows  # noqa: E402
import statements  # noqa: E402
from broker import Broker, BrokerError  # noqa: E402
from results import Results  # noqa: E402

# The modules with rows, in the order in which failures are best read.
MODULES = [
    "malformed", "connect", "publish", "acks", "qos", "subscribe", "topics", "retain", "session", "takeover",
    "will", "expiry", "properties", "alias", "flow", "limits", "shared", "keepalive", "auth", "access", "lenient",
    "policies",
    "websocket", "transports",
]

# Rows under way at once in one broker profile.
AT_ONCE = 64


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default="target/debug/nightjar", help="the broker's binary")
    p.add_argument("--broker", choices=["nightjar", "mosquitto"], default="nightjar")
    p.add_argument("--only", default="", help="run the rows whose path holds this text")
    p.add_argument("--list", action="store_true", help="print the rows and end")
    p.add_argument("--quiet", action="store_true", help="print failures and the counts only")
    p.add_argument("--write-statements", action="store_true", help="write the rows' names into tests/statements.toml")
    return p.parse_args()


def peer_deviations():
    """Rows in which Mosquitto differs from the standard or from Nightjar's documented choice, with the reason."""
    known = {}
    for line in (HERE / "mosquitto.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(": ")
            known[name.strip()] = reason.strip()
    return known


async def run_rows(brokers, chosen, results):
    """All rows of all profiles at once, each against the broker of its profile."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(row, version):
        async with gate:
            begin = time.monotonic()
            broker = brokers[row.profile]
            why = await rows.run_row(row, version, broker)
            seconds = time.monotonic() - begin
            name = f"{row.path}[{version}]"
            if why is None:
                results.ok(name, seconds)
            else:
                results.fail(name, why, seconds)

    def started(phase):
        return [one(row, version) for row, version in chosen if row.phase == phase]

    # Rows that wait for a minute begin at once. Rows that measure times come after those that keep a core busy.
    async def in_turn():
        await asyncio.gather(*started("busy"))
        await asyncio.gather(*started("timed"))

    await asyncio.gather(in_turn(), *started("slow"))


def run_brokers(args, chosen, results):
    """Starts a broker for each profile, runs the rows, and looks at how each broker came through."""
    binary = os.path.abspath(args.bin) if args.broker == "nightjar" else None
    brokers = {profile: Broker(args.broker, binary, profile) for profile in {row.profile for row, _ in chosen}}
    try:
        for profile, broker in list(brokers.items()):
            try:
                broker.start()
            except BrokerError as e:
                results.fail(f"raw/{profile}", str(e))
        started = [(row, v) for row, v in chosen if brokers[row.profile].endpoints]
        asyncio.run(run_rows(brokers, started, results))
        for profile, broker in brokers.items():
            if not broker.endpoints:
                continue
            if not broker.alive():
                results.fail(f"raw/{profile}", f"the broker died during the rows: {broker.tail()}")
                continue
            if broker.panic():
                results.fail(f"raw/{profile}", broker.panic())
            try:
                code = broker.stop()
            except BrokerError as e:
                results.fail(f"raw/{profile}", str(e))
            else:
                if code != 0 and args.broker == "nightjar":
                    results.fail(f"raw/{profile}", f"exit code {code} after SIGTERM")
    finally:
        for broker in brokers.values():
            broker.remove()


def main():
    args = parse_args()
    # An end by a signal runs the `finally` blocks too, which end the brokers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for module in MODULES:
        importlib.import_module(module)
    if args.list:
        for row in rows.ROWS:
            print(row.path, *row.versions)
        return 0
    if args.write_statements:
        statements.write(rows.ROWS)
        return 0

    results = Results(ci=os.environ.get("CI") == "true", quiet=args.quiet)
    chosen = [(row, v) for row in rows.ROWS for v in row.versions if args.only in f"{row.path}[{v}]"]
    if not args.only:
        names = [row.path for row in rows.ROWS]
        for double in sorted({n for n in names if names.count(n) > 1}):
            results.fail(double, "two rows have this name")
        for what in statements.check(rows.ROWS):
            results.fail("tests/statements.toml", what)
    if args.broker == "mosquitto":
        known = peer_deviations()
        kept = []
        for row, v in chosen:
            reason = next((why for name, why in known.items() if fnmatch.fnmatchcase(f"{row.name}({v})", name)), None)
            if reason is None and row.profile != "default":
                reason = f"profile {row.profile} is Nightjar's"
            if reason:
                results.skipped.append((row.path, reason))
            else:
                kept.append((row, v))
        chosen = kept

    run_brokers(args, chosen, results)
    return results.close("raw bytes")


if __name__ == "__main__":
    sys.exit(main())
