"""Value types, names, limits and the error tree. Owns words that every layer shares; never does I/O."""
