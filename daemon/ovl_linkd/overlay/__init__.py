"""What the kernel understands: the grammar of overlay options, their limits, shorter spellings."""
