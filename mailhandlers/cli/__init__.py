"""The shell's reader: the command ``mailhandlers``, a function for each of its commands."""
