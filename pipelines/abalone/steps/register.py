"""Register the model: write the package that says what it is, how good it is, and whether it is approved."""

import argparse
import hashlib
import json
import pathlib


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "mse", "status", "package"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    model = pathlib.Path(options.model).read_bytes()
    package = {
        "model": {
            "file": pathlib.Path(options.model).name,
            "sha256": hashlib.sha256(model).hexdigest(),
            "bytes": len(model),
        },
        "metrics": {"mse": float(options.mse)},
        "approval_status": options.status,
    }
    pathlib.Path(options.package).write_text(json.dumps(package, indent=2) + "\n")
    print(f"registered {package['model']['file']} with mse {options.mse}, {options.status}")


if __name__ == "__main__":
    main()
