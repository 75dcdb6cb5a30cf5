"""A message: from octets to what a person sees of it. Forward only, and no disk."""
