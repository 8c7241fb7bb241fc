"""Read one table of text: a csv file with the columns that are expected becomes a database with the table `raw`."""

import argparse
import csv
import pathlib
import sqlite3
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", required=True)
    parser.add_argument("--columns", required=True, help="their names, with commas between")
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    columns = options.columns.split(",")
    with open(options.csv, newline="") as file:
        reader = csv.reader(file)
        if (header := next(reader, [])) != columns:
            sys.exit(f"{pathlib.Path(options.csv).name} has the columns {header}; expected are {columns}")
        rows = list(reader)
    with sqlite3.connect(options.database) as database:
        database.execute(f"CREATE TABLE raw ({', '.join(f'{column} TEXT' for column in columns)})")
        database.executemany(f"INSERT INTO raw VALUES ({', '.join('?' * len(columns))})", rows)
    database.close()
    print(f"{len(rows)} rows")


if __name__ == "__main__":
    main()
