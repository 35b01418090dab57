"""What lasts: logs of sessions, their turns, and where both are kept."""
