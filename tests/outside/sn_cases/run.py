#!/usr/bin/env python3
"""Runs the cases of MQTT-SN: an independent client, written from the standard, against the gateway over UDP.

    tests/outside/sn_cases/run.py [--bin target/debug/nightjar] [--only TEXT] [--list] [--write-statements]

Last line: `N passed, N failed, N skipped`.
"""

import argparse
import concurrent.futures
import importlib
import os
import pathlib
import signal
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import harness  # noqa: E402
import statements_sn  # noqa: E402
from broker import BrokerError  # noqa: E402
from results import Results  # noqa: E402

# The modules with cases, in the order in which failures are best read.
MODULES = ["exact", "connect", "wills", "topics", "publishing", "subscribing", "sleeping", "identity", "discovery",
           "malformed", "access", "rates", "bridge", "restart", "limits",
           "listeners"]

# Cases under way at once. Each waits most of its time.
AT_ONCE = 12


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default="target/debug/nightjar", help="the broker's binary")
    p.add_argument("--only", default="", help="run the cases whose name holds this text")
    p.add_argument("--list", action="store_true", help="print the cases and end")
    p.add_argument("--quiet", action="store_true", help="print failures and the counts only")
    p.add_argument("--write-statements", action="store_true", help="write the cases into tests/statements-mqttsn.toml")
    return p.parse_args()


def run_case(one, number, broker, binary):
    begin = time.monotonic()
    desk = harness.Desk(one, number, broker, binary)
    try:
        one.fn(desk)
        return None, time.monotonic() - begin
    except Exception as e:
        at = e.__traceback__
        while at.tb_next is not None and pathlib.Path(at.tb_next.tb_frame.f_code.co_filename).stem == one.module:
            at = at.tb_next
        return f"{one.module}.py:{at.tb_lineno}: {type(e).__name__}: {e}", time.monotonic() - begin
    finally:
        desk.end()


def run_all(chosen, binary, results):
    brokers = {profile: harness.new_broker(binary, profile)
               for profile in {one.profile for _, one in chosen} if profile != "own"}
    try:
        for profile, broker in brokers.items():
            try:
                broker.start()
            except BrokerError as e:
                results.fail(f"sn/{profile}", str(e))
        ready = [(number, one) for number, one in chosen
                 if one.profile == "own" or brokers[one.profile].endpoints]
        ready.sort(key=lambda pair: not pair[1].slow)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            started = {pool.submit(run_case, one, number, brokers.get(one.profile), binary): one
                       for number, one in ready}
            for done in concurrent.futures.as_completed(started):
                why, seconds = done.result()
                if why is None:
                    results.ok(started[done].path, seconds)
                else:
                    results.fail(started[done].path, why, seconds)
        for profile, broker in brokers.items():
            if not broker.endpoints:
                continue
            if not broker.alive():
                results.fail(f"sn/{profile}", f"the broker died during the cases: {broker.tail()}")
                continue
            if broker.panic():
                results.fail(f"sn/{profile}", broker.panic())
            try:
                code = broker.stop()
            except BrokerError as e:
                results.fail(f"sn/{profile}", str(e))
            else:
                if code != 0:
                    results.fail(f"sn/{profile}", f"exit code {code} after SIGTERM")
    finally:
        for broker in brokers.values():
            broker.remove()
        if harness.JUDGE is not None:
            harness.JUDGE.close()


def main():
    args = parse_args()
    # An end by a signal runs the `finally` blocks too, which end the brokers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for module in MODULES:
        importlib.import_module(module)
    if args.list:
        for one in harness.CASES:
            print(one.path, *one.proves)
        return 0
    if args.write_statements:
        statements_sn.write(harness.CASES)
        return 0
    results = Results(ci=os.environ.get("CI") == "true", quiet=args.quiet)
    if not args.only:
        names = [one.path for one in harness.CASES]
        for double in sorted({n for n in names if names.count(n) > 1}):
            results.fail(double, "two cases have this name")
        for what in statements_sn.check(harness.CASES):
            results.fail("tests/statements-mqttsn.toml", what)
    chosen = [(number, one) for number, one in enumerate(harness.CASES) if args.only in one.path]
    run_all(chosen, os.path.abspath(args.bin), results)
    return results.close("MQTT-SN")


if __name__ == "__main__":
    sys.exit(main())
