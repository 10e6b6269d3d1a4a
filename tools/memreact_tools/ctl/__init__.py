"""`memreact-ctl`: asks and tells the daemon, in this guest or from its host."""
