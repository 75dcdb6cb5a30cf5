"""What is asked of the operating system: files, flushing, locks, links."""
