"""Judge the model on rows that it has never seen: mean squared error and the deviation of the errors."""

import argparse
import json

import numpy
import xgboost


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "test", "report"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    model = xgboost.Booster()
    model.load_model(options.model)
    rows = numpy.loadtxt(options.test, delimiter=",")
    errors = rows[:, 0] - model.predict(xgboost.DMatrix(rows[:, 1:]))
    mse = float(numpy.mean(errors**2))
    report = {"regression_metrics": {"mse": {"value": mse, "standard_deviation": float(numpy.std(errors))}}}
    with open(options.report, "w") as file:
        json.dump(report, file, indent=2)
    print(f"mse {mse:.4f} on {len(rows)} rows")


if __name__ == "__main__":
    main()
