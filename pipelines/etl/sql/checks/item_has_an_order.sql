SELECT item_id, order_id
FROM staged.items
WHERE order_id NOT IN (SELECT order_id FROM marts.orders)
ORDER BY item_id
