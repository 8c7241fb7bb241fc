"""Keep the rows that have a temperature."""

import csv
import sys

source, target = sys.argv[1:]
with open(source, newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["celsius"]]
with open(target, "w", newline="") as file:
    writer = csv.DictWriter(file, ["city", "celsius"])
    writer.writeheader()
    writer.writerows(rows)
print(f"{len(rows)} rows kept")
