SELECT order_id, count(*) FROM marts.orders GROUP BY order_id HAVING count(*) > 1 ORDER BY order_id
