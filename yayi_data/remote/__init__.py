"""Files and packed folders that are elsewhere: read, copied here as they are needed, and uploaded."""
