"""Settings: what may be said, by whom, in which form, and what holds when all have spoken."""
