"""Put the marts into the warehouse, all or nothing; what is there already under the same key is replaced.

The warehouse is a database beside the pipeline: the one thing outside the store that a run changes.
"""

import argparse
import contextlib
import json
import os
import pathlib
import sqlite3

from transform import attach

TABLES = {"orders": "order_id", "customers": "customer_id"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warehouse", required=True)
    for table in TABLES:
        parser.add_argument(f"--{table}", required=True)
    options = parser.parse_args()
    with contextlib.closing(sqlite3.connect(pathlib.Path(options.warehouse).resolve().as_uri(), uri=True)) as warehouse:
        for table in TABLES:
            attach(warehouse, f"new_{table}", getattr(options, table))
        with warehouse:
            warehouse.execute("BEGIN IMMEDIATE")
            rows = 0
            for table, key in TABLES.items():
                source = f"new_{table}.{table}"
                warehouse.execute(f"CREATE TABLE IF NOT EXISTS {table} AS SELECT * FROM {source} WHERE false")
                warehouse.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS {table}_key ON {table} ({key})")
                rows += warehouse.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM {source}").rowcount
    pathlib.Path(os.environ["RUNNER_VALUES"]).write_text(json.dumps({"rows": rows}))
    print(f"{rows} rows into {options.warehouse}")


if __name__ == "__main__":
    main()
