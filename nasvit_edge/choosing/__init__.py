"""What a command means where its options leave it open: which latency table, accuracy, limits and subnet."""
