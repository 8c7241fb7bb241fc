"""Write one sentence about the temperatures."""

import csv
import sys

readings, celsius, unit, target = sys.argv[1:]
with open(readings, newline="") as file:
    cities = [row["city"] for row in csv.DictReader(file)]
average = float(celsius) * 1.8 + 32 if unit == "fahrenheit" else float(celsius)
sentence = f"{average:.1f} {unit} on average in {', '.join(cities)}"
with open(target, "w") as file:
    file.write(sentence + "\n")
print(sentence)
