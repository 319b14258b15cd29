"""The modes: one small file each, with its flags, `define_flags`, and one call, `run`."""
