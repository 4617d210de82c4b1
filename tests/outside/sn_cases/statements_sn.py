"""tests/statements-mqttsn.toml: what MQTT-SN 1.2 asks for, section by section, with the tests that prove it.

The cases of this folder say which statements they prove; `write` puts their names into the file, `check` compares.
Everything else in the file is written by hand; that it is whole is checked by tests/it/statements.rs.
"""

import pathlib
import re

FILE = pathlib.Path(__file__).resolve().parents[2] / "statements-mqttsn.toml"
OURS = "tests/outside/sn_cases/"

# The tests of one statement: on one line or on several.
_TESTS = re.compile(r'(?m)^tests = \[(?:\n(?:    "[^"\n]+",\n)*)?(?:"[^"\n]+"(?:, )?)*\]$')
_ID = re.compile(r'(?m)^id = "([^"\n]+)"$')
_NAME = re.compile(r'"([^"\n]+)"')


def proofs(cases):
    """The cases of each statement: {id: [reference, ...]}."""
    by_id = {}
    for case in cases:
        for number in case.proves:
            by_id.setdefault(number, []).append(case.reference)
    return by_id


def _blocks():
    """The file in parts, each begun by one `[[`."""
    return re.split(r"(?m)^(?=\[\[)", FILE.read_text())


def _named(block):
    """(id, all tests) of a part; (None, []) for one that is no statement."""
    number = _ID.search(block)
    tests = _TESTS.search(block)
    return number and number[1], _NAME.findall(tests[0]) if tests else []


def write(cases):
    by_id = proofs(cases)
    done = []
    for block in _blocks():
        number, tests = _named(block)
        ours = by_id.get(number, []) if number else []
        if number and _TESTS.search(block):
            tests = [name for name in tests if not name.startswith(OURS)] + ours
            if len(tests) < 2:
                text = "tests = [" + ", ".join(f'"{name}"' for name in tests) + "]"
            else:
                text = "tests = [\n" + "".join(f'    "{name}",\n' for name in tests) + "]"
            block = _TESTS.sub(lambda _, text=text: text, block, count=1)
        done.append(block)
    FILE.write_text("".join(done))


def check(cases):
    """What does not agree between the file and the cases, as lines."""
    by_id = proofs(cases)
    known = {}
    for block in _blocks():
        number, tests = _named(block)
        if number:
            known[number] = {name for name in tests if name.startswith(OURS)}
    for number, names in by_id.items():
        if number not in known:
            yield f"{names[0]} names {number}, which the file does not have"
    for number, there in known.items():
        for name in sorted(there ^ set(by_id.get(number, []))):
            yield f"{number}: {name} stands {'there' if name in there else 'in the case'} only " \
                  "(run tests/outside/sn_cases/run.py --write-statements)"
