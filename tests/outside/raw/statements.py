"""tests/statements.toml: every normative statement of MQTT 3.1.1 and 5.0 with the tests that prove it.

The rows of this folder say which statements they prove; `write` puts their names into the file, `check` compares.
What else stands in the file (the words, the reasons, tests of other folders) is written by hand. That the list of
statements is complete is checked by tests/it/statements.rs.
"""

import pathlib
import re

FILE = pathlib.Path(__file__).resolve().parents[2] / "statements.toml"
OURS = "tests/outside/raw/"
TABLES = {"mqtt311": "4", "mqtt5": "5"}


class Statement:
    def __init__(self, table):
        self.table, self.id, self.says, self.tests, self.none = table, "", "", [], ""

    def lines(self):
        yield f"[[{self.table}]]"
        yield f'id = "{self.id}"'
        yield f'says = "{self.says}"'
        if self.none:
            yield f'none = "{self.none}"'
        if self.tests or not self.none:
            yield "tests = ["
            yield from (f'    "{name}",' for name in self.tests)
            yield "]"
        yield ""


def read():
    """(the comment at the top, the statements in their order). The file keeps to a few plain forms of TOML."""
    head, found = [], []
    for line in FILE.read_text().splitlines():
        table = re.fullmatch(r"\[\[(\w+)\]\]", line)
        field = re.fullmatch(r'(id|says|none) = "(.*)"', line)
        test = re.fullmatch(r'    "(.+)",', line)
        if table:
            found.append(Statement(table[1]))
        elif not found:
            head.append(line)
        elif field:
            setattr(found[-1], field[1], field[2])
        elif test:
            found[-1].tests.append(test[1])
        elif line not in ("", "tests = [", "]"):
            raise ValueError(f"tests/statements.toml: a line of another form: {line}")
    return head, found


def proofs(rows):
    """The rows of each statement: {(table, id): [path, ...]}."""
    by_id = {}
    for row in rows:
        for table, version in TABLES.items():
            for number in dict.fromkeys(row.statements[version]):
                names = by_id.setdefault((table, f"MQTT-{number}"), [])
                if row.path not in names:
                    names.append(row.path)
    return by_id


def write(rows):
    head, found = read()
    by_id = proofs(rows)
    for statement in found:
        others = [name for name in statement.tests if not name.startswith(OURS)]
        statement.tests = others + by_id.get((statement.table, statement.id), [])
    lines = [*head]
    for statement in found:
        lines += statement.lines()
    FILE.write_text("\n".join(lines).rstrip("\n") + "\n")


def check(rows):
    """What does not agree between the file and the rows, as lines."""
    _, found = read()
    by_id = proofs(rows)
    known = {(s.table, s.id) for s in found}
    for key, names in by_id.items():
        if key not in known:
            yield f"{names[0]} names {key[1]}, which {key[0]} does not have"
    for statement in found:
        ours = {name for name in statement.tests if name.startswith(OURS)}
        rows_of_it = set(by_id.get((statement.table, statement.id), []))
        for name in sorted(ours ^ rows_of_it):
            yield f"{statement.table} {statement.id}: {name} stands {'there' if name in ours else 'in the row'} only " \
                  "(run tests/outside/raw/run.py --write-statements)"
