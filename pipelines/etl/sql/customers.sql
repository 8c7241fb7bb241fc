-- One row for each customer, also for those who never ordered. From `regular_from` orders on a customer is a regular.
CREATE TABLE customers AS
WITH bought AS (
    SELECT
        customer_id,
        count(*) AS orders,
        min(ordered_on) AS first_order,
        max(ordered_on) AS last_order,
        sum(total_cents) AS spent_cents
    FROM marts.orders
    GROUP BY customer_id
)
SELECT
    customers.customer_id,
    customers.customer_name,
    coalesce(bought.orders, 0) AS orders,
    bought.first_order,
    bought.last_order,
    coalesce(bought.spent_cents, 0) AS spent_cents,
    CASE
        WHEN bought.orders IS NULL THEN 'none'
        WHEN bought.orders >= (SELECT CAST(value AS INTEGER) FROM given WHERE name = 'regular_from') THEN 'regular'
        WHEN bought.orders > 1 THEN 'returning'
        ELSE 'new'
    END AS kind
FROM staged.customers AS customers
LEFT JOIN bought USING (customer_id)
ORDER BY customers.customer_id;
