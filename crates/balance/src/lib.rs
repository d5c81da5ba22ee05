//! Picks endpoints: load balancing, outlier detection, circuit breakers, budgets.
