"""All that writes to a store, and what decides when: nothing else in the package does."""
