"""Counts and lines of a test run: one line per case, and the closing line that tests/run adds up."""

import pathlib
import sys
import time

SKIPS = pathlib.Path(__file__).resolve().parent.parent / "skips.txt"


def listed_skips():
    """Names of skips that CI allows, each with its reason (tests/skips.txt)."""
    allowed = {}
    for line in SKIPS.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(": ")
            if not reason.strip():
                raise ValueError(f"tests/skips.txt: no reason in line {line!r}")
            allowed[name.strip()] = reason.strip()
    return allowed


class Results:
    """Outcomes as they come. In CI a skip that tests/skips.txt does not name counts as a failure."""

    def __init__(self, ci=False, quiet=False):
        self.ci, self.quiet = ci, quiet
        self.passed, self.failed, self.skipped = 0, [], []
        self.begin = time.monotonic()

    def ok(self, name, seconds):
        self.passed += 1
        if not self.quiet:
            print(f"ok    {name} ({seconds:.2f} s)", flush=True)

    def fail(self, name, why, seconds=0.0):
        self.failed.append((name, why))
        print(f"FAIL  {name} ({seconds:.2f} s): {why}", flush=True)

    def skip(self, name, why):
        if self.ci and not self._allowed(name):
            self.fail(name, f"skipped in CI without a line in tests/skips.txt: {why}")
            return
        self.skipped.append((name, why))
        print(f"skip  {name}: {why}", flush=True)

    @staticmethod
    def _allowed(name):
        listed = listed_skips()
        return name in listed or any(n.endswith("*") and name.startswith(n[:-1]) for n in listed)

    def close(self, what):
        """Prints what failed again and the counts; returns the exit code."""
        if len(self.failed) > 1:
            print(f"\nfailed ({what}):")
            for name, why in self.failed:
                print(f"  {name}: {why}")
        seconds = time.monotonic() - self.begin
        print(f"{what}: {seconds:.1f} s", file=sys.stderr)
        print(f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped", flush=True)
        return 1 if self.failed else 0
