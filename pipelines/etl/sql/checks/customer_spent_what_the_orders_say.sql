SELECT customer_id, spent_cents
FROM people.customers AS customers
WHERE spent_cents <> (
    SELECT coalesce(sum(total_cents), 0) FROM marts.orders AS orders WHERE orders.customer_id = customers.customer_id
)
ORDER BY customer_id
