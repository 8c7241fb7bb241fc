"""Ask each rule of a folder, a query for the rows that break it, and write how many there are and which.

At most three rows of each rule are kept; the number is of all.
"""

import argparse
import json
import pathlib
import sqlite3
import sys

from transform import attach

KEPT = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", required=True)
    parser.add_argument("--report", required=True)
    parser.add_argument("--attach", action="append", default=[], metavar="NAME=FILE")
    options = parser.parse_args()
    database = sqlite3.connect(":memory:", uri=True)
    for pair in options.attach:
        attach(database, *pair.split("=", 1))
    found = {
        path.stem: database.execute(path.read_text()).fetchall()
        for path in sorted(pathlib.Path(options.rules).glob("*.sql"))
    }
    if not found:
        sys.exit(f"no rules in {options.rules}: nothing is checked")
    report = {
        "violations": sum(len(rows) for rows in found.values()),
        "rules": {rule: {"violations": len(rows), "rows": rows[:KEPT]} for rule, rows in found.items()},
    }
    pathlib.Path(options.report).write_text(json.dumps(report, indent=2) + "\n")
    for rule, rows in found.items():
        print(f"{rule}: {len(rows) or 'none'}")


if __name__ == "__main__":
    main()
