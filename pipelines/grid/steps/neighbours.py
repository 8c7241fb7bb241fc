"""Tell a leaf's kind by its nearest neighbours: all in whole numbers, so that every machine says the same."""

import collections
import csv
import itertools

DISTANCES = {
    "city": lambda a, b: sum(abs(x - y) for x, y in zip(a, b, strict=True)),
    "crow": lambda a, b: sum((x - y) ** 2 for x, y in zip(a, b, strict=True)),  # squared, which orders as the root does
    "most": lambda a, b: max(abs(x - y) for x, y in zip(a, b, strict=True)),
}


def read(*paths):
    """Return (kind, lengths) of every row of the tables."""
    return [
        (kind, tuple(map(int, lengths)))
        for path in paths
        for kind, *lengths in itertools.islice(csv.reader(path.read_text().splitlines()), 1, None)
    ]


def tell(known, lengths, neighbours, distance):
    """Return the kind that most of the nearest have; of two with as many, the one whose first comes first."""
    nearest = sorted(known, key=lambda row: DISTANCES[distance](row[1], lengths))[:neighbours]
    return collections.Counter(kind for kind, _ in nearest).most_common(1)[0][0]


def wrong(known, asked, neighbours, distance):
    return sum(tell(known, lengths, neighbours, distance) != kind for kind, lengths in asked)


def validate(parts, fold, neighbours, distance):
    """Return how many rows of one fold are told wrong by the rows of all the other folds."""
    held = parts / f"fold-{fold}.csv"
    known = read(*(path for path in sorted(parts.glob("fold-*.csv")) if path.name != held.name))
    return {"wrong": wrong(known, read(held), neighbours, distance)}


def test(parts, neighbours, distance):
    """Return how many rows of the test are told wrong by the rows of all folds, and how many there are."""
    asked = read(parts / "test.csv")
    return {"wrong": wrong(read(*sorted(parts.glob("fold-*.csv"))), asked, neighbours, distance), "rows": len(asked)}
