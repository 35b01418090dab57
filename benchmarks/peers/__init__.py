"""This project beside what a user would choose instead, each in an environment of its own."""
