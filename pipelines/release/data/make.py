"""Make the table of subscribers, always the same: months with us, calls to the hotline, late payments, and who left.

    python data/make.py        writes subscribers.csv beside this program

The numbers come from one linear congruential generator, so that no version of Python makes others.
"""

import csv
import pathlib

ROWS = 240


def numbers(state):
    """Yield numbers below 2**16, the same for the same state."""
    while True:
        state = (1103515245 * state + 12345) % 2**31
        yield state >> 15


def main():
    random = numbers(11)
    with open(pathlib.Path(__file__).with_name("subscribers.csv"), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["months", "calls", "late", "left"])
        for _ in range(ROWS):
            months, calls, late = 1 + next(random) % 48, next(random) % 9, next(random) % 5
            mood = 10 * calls + 14 * late - 2 * months + next(random) % 61 - 30
            writer.writerow([months, calls, late, int(mood > 15)])


if __name__ == "__main__":
    main()
