SELECT order_id, customer_id
FROM marts.orders
WHERE customer_id NOT IN (SELECT customer_id FROM staged.customers)
ORDER BY order_id
