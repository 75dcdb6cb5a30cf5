"""Finding mail in a store, and waiting for it."""
