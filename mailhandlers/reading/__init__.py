"""All that finds, reads and shows stored messages."""
