"""Put a version of the model where its stage serves it from: one file, replaced in one go."""

import argparse
import json
import os
import pathlib


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--approved-by", default="")
    parser.add_argument("--served", required=True, help="the file that is served")
    options = parser.parse_args()
    served = {"version": options.version, "approved_by": options.approved_by or None}
    served["model"] = json.loads(pathlib.Path(options.model).read_text())
    place = pathlib.Path(options.served)
    place.parent.mkdir(exist_ok=True)
    draft = place.with_suffix(".new")
    draft.write_text(json.dumps(served, indent=2) + "\n")
    os.replace(draft, place)  # who reads it sees the old version or the new, never half
    print(f"{place} is version {options.version}")


if __name__ == "__main__":
    main()
