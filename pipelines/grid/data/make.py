"""Make the table of leaves, always the same: three kinds of tree, three lengths in tenths of a millimetre.

    python data/make.py        writes leaves.csv beside this program

The numbers come from one linear congruential generator, so that no version of Python makes others.
"""

import csv
import pathlib

KINDS = {"beech": (640, 410, 90), "hornbeam": (700, 380, 110), "elm": (760, 440, 70)}  # length, width, stalk
SPREAD = (90, 50, 22)
LEAVES = 60  # of each kind


def numbers(state):
    """Yield numbers below 2**16, the same for the same state."""
    while True:
        state = (1103515245 * state + 12345) % 2**31
        yield state >> 15


def main():
    random = numbers(7)

    def near(mean, spread):
        """A sum of four: most lie near the mean, none is farther from it than twice the spread."""
        return mean + sum(next(random) % (spread + 1) for _ in range(4)) - 2 * spread

    with open(pathlib.Path(__file__).with_name("leaves.csv"), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kind", "length", "width", "stalk"])
        for _ in range(LEAVES):
            for kind, means in KINDS.items():
                writer.writerow([kind, *(near(m, s) for m, s in zip(means, SPREAD, strict=True))])


if __name__ == "__main__":
    main()
