"""One module per kernel interface, in the kernel's words; no policy, nothing of memreact."""
