"""Run a file of SQL: it finds the databases that are given attached under their names, and makes tables in a new one.

Values are given as rows of the table `given` (name, value), never put into the text of the SQL.
"""

import argparse
import pathlib
import sqlite3


def attach(database, name, path):
    """Attach a database that nobody may change. Without locks, since its folder may be read-only, too."""
    database.execute(f"ATTACH ? AS {name}", [pathlib.Path(path).resolve().as_uri() + "?mode=ro&immutable=1"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sql", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--attach", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--given", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    database = sqlite3.connect(pathlib.Path(options.database).resolve().as_uri(), uri=True)
    for pair in options.attach:
        attach(database, *pair.split("=", 1))
    database.execute("CREATE TEMP TABLE given (name TEXT PRIMARY KEY, value TEXT)")
    database.executemany("INSERT INTO given VALUES (?, ?)", [pair.split("=", 1) for pair in options.given])
    database.executescript(pathlib.Path(options.sql).read_text())
    for (table,) in database.execute(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY name"
    ).fetchall():
        (count,) = database.execute(f"SELECT count(*) FROM main.{table}").fetchone()
        print(f"{table}: {count} rows")
    database.close()


if __name__ == "__main__":
    main()
