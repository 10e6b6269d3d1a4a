"""A configuration of Kata's runtime, in the manner of those that it ships."""

from __future__ import annotations

__all__ = ["CONFIGURATION", "SHIPPED_OUT"]

CONFIGURATION = """\
# Copyright (c) somebody
# XXX: Source file: configuration-dragonball.toml.in

[hypervisor.dragonball]
path = "/opt/kata/bin/none"
kernel = "/opt/kata/share/kata-containers/vmlinux.container"
image = '/opt/kata/share/kata-containers/kata-containers.img'  # [not a table]
# Optional space-separated list of options to pass to the guest kernel.
# For example, use `kernel_params = "vsyscall=emulate"` if you are having
kernel_params = "agent.log=debug # no comment"
valid_hypervisor_paths = [
  "/opt/kata/bin/none", # ]
  "reclaim_guest_freed_memory = true",
]
banner = \"\"\"
[agent.kata.mem_agent]
memcg_swap = true
\\\"\"\"
\"\"\"

# Enabling this will result in the VM balloon device having f_reporting=on set.
# Default false
#reclaim_guest_freed_memory = true

# Enable guest swap.
enable_guest_swap = false
# guest_swap_path = "/run/kata-containers/swap"   # on the host
guest_swap_size_percent = 100

[agent.kata]
dial_timeout_ms = 10
#debug_console_enabled = true

[agent.kata.mem_agent]
# Control the mem-agent function enable or disable.
# Default to false
#mem_agent_enable = true

# Control the mem-agent memcg function disable or enable
memcg_disable = false
\t# memcg_swap = false
memcg_swappiness_max=50
compact_sec_max     =   180 # seconds

[runtime]
enable_debug = true
"""

# Since 2025 nothing is commented out; before, everything was.
SHIPPED_OUT = """\
[hypervisor.clh]
#reclaim_guest_freed_memory = true
[agent.kata.mem_agent]
#mem_agent_enable = true
"""
