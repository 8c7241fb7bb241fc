"""Make the tables of a small café, always the same: customers, products, orders, items, and two later files of orders.

    python data/make.py        writes the .csv files beside this program

The numbers come from one linear congruential generator, so that no version of Python makes others.
"""

import csv
import pathlib

FOLDER = pathlib.Path(__file__).parent
GIVEN = ("Ada", "Ben", "Cleo", "Dmitri", "Emi", "Femi", "Greta", "Hugo")
FAMILY = ("Ash", "Birch", "Cedar")
PRODUCTS = (
    ("bread-1", "Rye slice", "food", "3.50"),
    ("bread-2", "Cheese toast", "food", "6.80"),
    ("bread-3", "Plum bun", "food", "4.25"),
    ("drink-1", "Filter coffee", "drink", "3.10"),
    ("drink-2", "Mint tea", "drink", "2.90"),
)
ORDERS = 60
TAX_PERCENT = 7


def numbers(state):
    """Yield numbers below 2**16, the same for the same state."""
    while True:
        state = (1103515245 * state + 12345) % 2**31
        yield state >> 15


def dollars(cents):
    return f"{cents // 100}.{cents % 100:02}"


def tax(cents):
    return (cents * TAX_PERCENT + 50) // 100


def write(name, header, rows):
    with open(FOLDER / name, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main():
    random = numbers(2026)
    # As such files are: blanks around names, prices as text, times with a T.
    customers = [[f"c{i + 1:02}", f" {GIVEN[i % 8]} {FAMILY[i % 3]}" + " " * (i % 2)] for i in range(20)]
    price = {sku: int(text.replace(".", "")) for sku, _, _, text in PRODUCTS}
    orders, items = [], []
    for number in range(1, ORDERS + 1):
        skus = [PRODUCTS[next(random) % len(PRODUCTS)][0] for _ in range(1 + next(random) % 3)]
        items += [[f"i{len(items) + n + 1:03}", f"o{number:03}", sku] for n, sku in enumerate(skus)]
        subtotal = sum(price[sku] for sku in skus)
        # The last two customers buy nothing.
        customer = f"c{1 + next(random) % 18:02}"
        when = f"2025-{1 + number // 21:02}-{1 + number % 28:02}T{8 + next(random) % 9:02}:{next(random) % 60:02}:00"
        orders.append([f"o{number:03}", customer, when, dollars(subtotal), dollars(tax(subtotal))])
    write("customers.csv", ["id", "name"], customers)
    write("products.csv", ["sku", "name", "type", "price"], PRODUCTS)
    header = ["id", "customer", "ordered_at", "subtotal", "tax_paid"]
    write("orders.csv", header, orders)
    write("items.csv", ["id", "order_id", "sku"], items)
    # Two orders were put down to the wrong customer.
    moved = {"o007": "c19", "o031": "c20"}
    write("orders-corrected.csv", header, [[row[0], moved.get(row[0], row[1]), *row[2:]] for row in orders])
    # An order that is there twice, one of nobody, one whose sum is not that of its items.
    broken = [list(row) for row in orders]
    broken[10][1] = "c99"
    broken[20][3] = "999.99"
    write("orders-broken.csv", header, [*broken, orders[4]])


if __name__ == "__main__":
    main()
