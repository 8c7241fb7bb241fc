"""Reduce the grid: one table of all its points, best first."""

import itertools


def table(neighbours, distances, wrong, path):
    """Write how many rows each point told wrong. The points come as the grid does: the last axis turns fastest."""
    points = zip(itertools.product(neighbours, distances), wrong, strict=True)
    ranked = sorted(points, key=lambda point: point[1])
    lines = [f"{n:>10}  {distance:<8}  {mistakes:>5}" for (n, distance), mistakes in ranked]
    path.write_text("\n".join(["neighbours  distance  wrong", *lines]) + "\n")
