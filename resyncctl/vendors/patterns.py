"""How much work a User-Agent pattern can cause.

A User-Agent comes from the network, and Python's `re` backtracks: a pattern such as `(a+)+x` needs exponential time on
thirty letters. A pattern is therefore accepted only if a reader of a few lines can bound its work, which the patterns
that tell phones apart have no difficulty with.
"""

from __future__ import annotations

USER_AGENT_LIMIT = 256
"""Characters of a User-Agent that are looked at; every make and model known to us stands in the first 140."""

WAYS_LIMIT = 16 * USER_AGENT_LIMIT
"""Ways a pattern may be tried from one place: an unbounded repeat, and a few optional characters beside it."""

_FLAGS = "(?i)"


def ways(pattern: str) -> int:
    """Return an upper bound of the ways in which `pattern` (valid for `re`) can be tried from one place in a User-Agent.

    A repeat multiplies by the number of lengths that it can take; alternatives are added. Raise ValueError, with the
    reason as its text, for what cannot be bounded so: a repeated group, a back-reference, an assertion.
    """
    alternatives, current = (
        [0],
        [1],
    )  # for each open group: the ways of its finished alternatives, and of the present one
    position = len(_FLAGS) if pattern.startswith(_FLAGS) else 0
    after_group = False
    while position < len(pattern):
        character = pattern[position]
        if character in "*+?{":
            if after_group and character != "?":
                raise ValueError("it repeats a group")
            lengths, position = _repeat(pattern, position)
            current[-1] *= lengths
            after_group = False
            continue
        after_group = character == ")"
        if character == "(":
            position = _start_of_group(pattern, position)
            alternatives.append(0)
            current.append(1)
            continue
        if character == "|":
            alternatives[-1] += current[-1]
            current[-1] = 1
        elif character == ")":
            inside = alternatives.pop() + current.pop()
            current[-1] *= inside
        position = _end_of_item(pattern, position)
    return alternatives[0] + current[0]


def _start_of_group(pattern: str, position: int) -> int:
    """Return the place after the opening of a group."""
    if not pattern.startswith("?", position + 1):
        return position + 1
    if pattern.startswith("?:", position + 1):
        return position + 3
    raise ValueError("it has a group other than (…) and (?:…), or flags other than a leading (?i)")


def _repeat(pattern: str, position: int) -> tuple[int, int]:
    """Return how many lengths a repeat can take, and the place after it."""
    if pattern[position] == "?":
        return 2, position + 1
    if pattern[position] in "*+":
        return USER_AGENT_LIMIT, position + 1
    inside, brace, _ = pattern[position + 1 :].partition("}")
    low, comma, high = inside.partition(",")
    if not brace or not (low + high).isdecimal() or (low and not low.isdecimal()):
        raise ValueError(r"it has a { that opens no repeat; write \{")
    if not comma:
        lengths = 1
    elif high:
        lengths = int(high) - int(low or "0") + 1
    else:
        lengths = USER_AGENT_LIMIT
    return lengths, position + len(inside) + 2


def _end_of_item(pattern: str, position: int) -> int:
    """Return the place after one literal, escape or character class."""
    if pattern[position] == "\\":
        if pattern[position + 1] in "123456789":
            raise ValueError("it has a back-reference")
        return position + 2
    if pattern[position] != "[":
        return position + 1
    position += 2 if pattern.startswith("^", position + 1) else 1
    if pattern[position] == "]":  # one that comes first is a member of the class
        position += 1
    while pattern[position] != "]":
        position += 2 if pattern[position] == "\\" else 1
    return position + 1
