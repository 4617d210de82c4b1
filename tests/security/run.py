#!/usr/bin/env python3
"""Who gets in and who does not: limits, backends with the example files of etc/auth, and the table of attacks.

    python3 tests/security/run.py --bin target/debug/nightjar [--only WORD]
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import attacks  # noqa: E402
import backends  # noqa: E402
import restraints  # noqa: E402
from kit import BrokerError, Failed, wire  # noqa: E402
from results import Results  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    binary = str(pathlib.Path(args.bin).resolve())
    results = Results(ci=os.environ.get("CI") == "true")
    for name, fn in restraints.CASES + backends.CASES + attacks.CASES:
        if args.only not in name:
            continue
        begin = time.monotonic()
        try:
            fn(binary)
            results.ok(name, time.monotonic() - begin)
        except backends.Missing as missing:
            results.skip(name, str(missing))
        except (Failed, BrokerError, OSError, wire.WireError, subprocess.SubprocessError) as error:
            results.fail(name, repr(error), time.monotonic() - begin)
    return results.close("security")


if __name__ == "__main__":
    sys.exit(main())
