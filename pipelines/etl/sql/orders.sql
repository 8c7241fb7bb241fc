-- One row for each order: what was in it, what it cost, and the how-manieth of its customer it is.
CREATE TABLE orders AS
WITH content AS (
    SELECT
        items.order_id,
        sum(products.type = 'food') AS food_items,
        sum(products.type = 'drink') AS drink_items,
        sum(products.price_cents) AS items_cents
    FROM staged.items AS items
    JOIN staged.products AS products USING (sku)
    GROUP BY items.order_id
)
SELECT
    orders.order_id,
    orders.customer_id,
    orders.ordered_on,
    coalesce(content.food_items, 0) AS food_items,
    coalesce(content.drink_items, 0) AS drink_items,
    coalesce(content.items_cents, 0) AS items_cents,
    orders.subtotal_cents,
    orders.tax_cents,
    orders.subtotal_cents + orders.tax_cents AS total_cents,
    row_number() OVER (PARTITION BY orders.customer_id ORDER BY orders.ordered_at, orders.order_id) AS customer_order
FROM staged.orders AS orders
LEFT JOIN content USING (order_id)
ORDER BY orders.order_id;
