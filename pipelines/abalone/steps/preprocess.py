"""Turn the raw abalone measurements into three tables that a model can read.

The sex becomes three columns of 0 and 1, every measurement is standardised with the mean and deviation of the
training rows, and the label (the number of rings) is the first column. The split is by a fixed seed: the same
data gives the same three files.
"""

import argparse
import csv
import random
import statistics

SEXES = ("M", "F", "I")
MEASUREMENTS = 7  # length, diameter, height (mm / 200), four weights (g / 200)
SHARES = (0.7, 0.15)  # training and validation; the rest is for testing
SEED = 20


def read(path):
    """Return (sex, measurements, rings) of every row."""
    with open(path, newline="") as file:
        return [
            (row[0], [float(x) for x in row[1 : 1 + MEASUREMENTS]], float(row[8])) for row in csv.reader(file) if row
        ]


def split(rows):
    rows = list(rows)
    random.Random(SEED).shuffle(rows)
    first, second = round(SHARES[0] * len(rows)), round(sum(SHARES) * len(rows))
    return rows[:first], rows[first:second], rows[second:]


def write(path, rows, means, deviations):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for sex, measured, rings in rows:
            standard = [
                f"{(x - mean) / deviation:.6f}" for x, mean, deviation in zip(measured, means, deviations, strict=True)
            ]
            writer.writerow([f"{rings:g}", *standard, *(int(sex == s) for s in SEXES)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("input", "train", "validation", "test"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    rows = read(options.input)
    train, validation, test = split(rows)
    columns = list(zip(*(measured for _, measured, _ in train), strict=True))
    means = [statistics.fmean(column) for column in columns]
    deviations = [statistics.pstdev(column) for column in columns]
    for path, part in ((options.train, train), (options.validation, validation), (options.test, test)):
        write(path, part, means, deviations)
    print(f"{len(rows)} rows: {len(train)} to train, {len(validation)} to validate, {len(test)} to test")


if __name__ == "__main__":
    main()
