"""What people are told: the log of decisions, the journal's lines, the status line."""
