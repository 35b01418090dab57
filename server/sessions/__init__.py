"""What lasts: the logs of sessions, the turns that add to them, and the stores that keep them."""
