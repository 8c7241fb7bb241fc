"""Reduce the folds of one point: how many rows they told wrong together."""


def total(wrong):
    return {"wrong": sum(wrong)}
