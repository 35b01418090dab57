"""Durable logs of sessions: what a store promises, and the two kinds of stores."""
