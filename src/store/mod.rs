//! Layer 5. The database: customers, orders, calls, turns, tickets, transfers.
