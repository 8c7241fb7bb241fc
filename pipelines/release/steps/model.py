"""A logistic regression of a few numbers, in plain Python: train it, ask it, judge it.

A model is {"features": [names], "means": [...], "spreads": [...], "weights": [...], "bias": ...}. What is written is
rounded, so that machines whose `exp` differs in the last bit write the same.
"""

import csv
import json
import math

DIGITS = 3


def read(path):
    """Return the names of the features, and (features, label) of every row."""
    header, *rows = csv.reader(path.read_text().splitlines())
    return header[:-1], [([float(x) for x in row[:-1]], int(row[-1])) for row in rows]


def scaled(model, features):
    return [(x - m) / s for x, m, s in zip(features, model["means"], model["spreads"], strict=True)]


def score(model, features):
    """Return how likely the label is 1."""
    total = model["bias"] + sum(w * x for w, x in zip(model["weights"], scaled(model, features), strict=True))
    return 1 / (1 + math.exp(-total))


def train(table, rounds, rate, path):
    """Write the model that `rounds` steps down the gradient of the loss give, each `rate` long."""
    names, rows = read(table)
    columns = list(zip(*(features for features, _ in rows), strict=True))
    means = [sum(column) / len(column) for column in columns]
    spreads = [
        math.sqrt(sum((x - m) ** 2 for x in column) / len(column)) or 1.0
        for column, m in zip(columns, means, strict=True)
    ]
    model = {"features": names, "means": means, "spreads": spreads, "weights": [0.0] * len(names), "bias": 0.0}
    known = [(scaled(model, features), label) for features, label in rows]
    for _ in range(rounds):
        bias, slopes = 0.0, [0.0] * len(names)
        for features, label in known:
            total = model["bias"] + sum(w * x for w, x in zip(model["weights"], features, strict=True))
            error = 1 / (1 + math.exp(-total)) - label
            bias += error
            slopes = [s + error * x for s, x in zip(slopes, features, strict=True)]
        model["bias"] -= rate * bias / len(known)
        model["weights"] = [w - rate * s / len(known) for w, s in zip(model["weights"], slopes, strict=True)]
    model["bias"] = round(model["bias"], DIGITS)
    for part in ("means", "spreads", "weights"):
        model[part] = [round(x, DIGITS) for x in model[part]]
    path.write_text(json.dumps(model, indent=2) + "\n")


def evaluate(model, table, path):
    """Write how often the model is right, how often one is who always says the same, and the mean log loss.

    Whole percent and whole thousandths: enough to judge by, and the same on every machine.
    """
    asked = json.loads(model.read_text())
    _, rows = read(table)
    answers = [(score(asked, features), label) for features, label in rows]
    ones = sum(label for _, label in rows)
    report = {
        "rows": len(rows),
        "accuracy_percent": 100 * sum((answer > 0.5) == bool(label) for answer, label in answers) // len(rows),
        "baseline_percent": 100 * max(ones, len(rows) - ones) // len(rows),
        "loss_thousandths": round(-1000 * sum(math.log(a if label else 1 - a) for a, label in answers) / len(rows)),
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
