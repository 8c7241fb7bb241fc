"""Deal the rows of a table into parts: every fifth row is kept for the test, the others go into the folds in turn.

Rows of one kind are dealt one after another, so that every part holds as many of each.
"""

import argparse
import csv
import pathlib

KEPT = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True)
    parser.add_argument("--folds", type=int, required=True)
    parser.add_argument("--parts", required=True)
    options = parser.parse_args()
    with open(options.table, newline="") as file:
        header, *rows = csv.reader(file)
    rows.sort(key=lambda row: row[0])
    test = rows[::KEPT]
    train = [row for number, row in enumerate(rows) if number % KEPT]
    parts = {"test": test} | {f"fold-{n + 1}": train[n :: options.folds] for n in range(options.folds)}
    pathlib.Path(options.parts).mkdir()
    for name, part in parts.items():
        with open(pathlib.Path(options.parts) / f"{name}.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *part])
        print(f"{name}: {len(part)} rows")


if __name__ == "__main__":
    main()
