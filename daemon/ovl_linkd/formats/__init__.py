"""Where overlay options are found in the wild, each with its own quoting."""
