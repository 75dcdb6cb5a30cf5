"""The stores: where and how each keeps mail, and how it is read back."""
