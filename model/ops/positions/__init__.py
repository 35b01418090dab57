"""Coupled positions: where in its turn a token stands, and the fixed code of that place.

A turn of copying is `BOS source SEP output EOS`. BOS stands at the number of tokens before it, each
further token one place later; at SEP the count goes back to the place of BOS. An output token thus
stands where its source does, however long the string, and the turns of one sequence never overlap.

A turn of recall is `BOS SEP prefix output EOS`, for models that know it: a SEP right after its BOS
has nothing to copy. From there on tokens have no place: what they continue is found by content.
(A sequence that begins without BOS counts as opened by its first token.)

Codes are the bits of a hash of the position, as ±1: they exist for every integer, no two are alike,
and neighbours have nothing in common that could be mistaken for a match of place. Half of a
balanced code are these bits, the other half their negatives, so that every code has the same sum
and norm.

The reach of a token says how many of the tokens right before it belong to its part of the turn: as
many as there are since BOS or SEP, which is the last of them. BOS, and the SEP of a recall, have a
reach of 0. Without coupled positions it is the number of all tokens before.
"""

STATE_SIZE = 3
"""Counters a sequence: tokens seen; the position of BOS, or -1 minus it from SEP on; the next
position."""

NOWHERE = -1
"""The position of tokens that have no place. Its code is zeros."""

SOURCE, OUTPUT, RECALL = 0, 1, 2
"""Phases: before SEP, from SEP on, and from the SEP of a recall on."""

EVERY_PHASE = -1
"""Stands for all phases where a mask of some, a bit for each, is asked for."""
