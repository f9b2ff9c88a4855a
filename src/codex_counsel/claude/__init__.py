"""Everything that is known about Claude Code: its sessions, plugins and hooks."""
