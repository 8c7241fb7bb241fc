"""The average temperature."""

import csv
from pathlib import Path


def average(readings: Path) -> dict[str, float]:
    """Return the value outputs of the step, by name."""
    with open(readings, newline="") as file:
        temperatures = [float(row["celsius"]) for row in csv.DictReader(file)]
    return {"celsius": sum(temperatures) / len(temperatures)}
