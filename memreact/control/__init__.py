"""Who may change and ask what, and how: the settings in force, and the servers before them."""
