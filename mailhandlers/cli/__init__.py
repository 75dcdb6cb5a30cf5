"""The shell's reader: the command ``mailhandlers``, a module for each of its commands."""
