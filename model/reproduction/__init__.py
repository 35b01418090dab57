"""The paper's copying experiment, again: many trainings, side by side, and what came of them."""
