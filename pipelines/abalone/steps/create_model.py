"""Create the model that would be served: check that it loads, and write down what a server needs to know."""

import argparse
import json
import pathlib

import xgboost


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "out"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    model = xgboost.Booster()
    model.load_model(options.model)
    served = {"features": model.num_features(), "rounds": model.num_boosted_rounds(), "predicts": "rings"}
    pathlib.Path(options.out).write_text(json.dumps(served, indent=2) + "\n")
    print(f"the model takes {served['features']} features and has {served['rounds']} rounds")


if __name__ == "__main__":
    main()
