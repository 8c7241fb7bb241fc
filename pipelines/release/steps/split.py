"""Keep every fourth row of a table for the test; train on the others."""

import argparse
import csv

KEPT = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("table", "train", "test"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    with open(options.table, newline="") as file:
        header, *rows = csv.reader(file)
    parts = {options.train: [row for n, row in enumerate(rows) if n % KEPT], options.test: rows[::KEPT]}
    for path, part in parts.items():
        with open(path, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *part])
        print(f"{path}: {len(part)} rows")


if __name__ == "__main__":
    main()
