"""What one command does from start to end, without its options."""
