-- Text becomes typed: names without blanks around them, money in whole cents, a day out of a time.
CREATE TABLE customers AS
SELECT id AS customer_id, trim(name) AS customer_name
FROM raw_customers.raw;

CREATE TABLE products AS
SELECT sku, name AS product_name, type, CAST(replace(price, '.', '') AS INTEGER) AS price_cents
FROM raw_products.raw;

CREATE TABLE items AS
SELECT id AS item_id, order_id, sku
FROM raw_items.raw;

CREATE TABLE orders AS
SELECT
    id AS order_id,
    customer AS customer_id,
    substr(ordered_at, 1, 10) AS ordered_on,
    ordered_at,
    CAST(replace(subtotal, '.', '') AS INTEGER) AS subtotal_cents,
    CAST(replace(tax_paid, '.', '') AS INTEGER) AS tax_cents
FROM raw_orders.raw;
