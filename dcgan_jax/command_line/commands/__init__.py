"""The modes, one small file each: `define_flags` declares the flags, `run` makes one call."""
