SELECT order_id, subtotal_cents, items_cents FROM marts.orders WHERE subtotal_cents <> items_cents ORDER BY order_id
