"""What all commands share: flags, their errors, and whether this process is one of several."""
