//! Layer 6. Sockets and threads: media shards, inference pool, glue between the rooms.
