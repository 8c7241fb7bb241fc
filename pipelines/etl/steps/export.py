"""Write each table of the given databases as a csv file into a folder."""

import argparse
import contextlib
import csv
import pathlib
import sqlite3

from transform import attach


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("databases", nargs="+")
    options = parser.parse_args()
    folder = pathlib.Path(options.folder)
    folder.mkdir()
    for path in options.databases:
        with contextlib.closing(sqlite3.connect(":memory:", uri=True)) as database:
            attach(database, "mart", path)
            for (table,) in database.execute("SELECT name FROM mart.sqlite_schema WHERE type = 'table'").fetchall():
                rows = database.execute(f"SELECT * FROM mart.{table} ORDER BY 1")
                with open(folder / f"{table}.csv", "w", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerow(column[0] for column in rows.description)
                    writer.writerows(rows)
                print(f"{table}.csv")


if __name__ == "__main__":
    main()
