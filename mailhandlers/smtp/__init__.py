"""What is said in an SMTP session, and what is learned from it."""
