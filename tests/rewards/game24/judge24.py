"""An independent judge of 24-game expressions, and a mutator of solutions. Shares no code with the
scorer.
"""

from __future__ import annotations

import itertools
import operator
import random
from fractions import Fraction

SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def brute_force(text: str, numbers: list[int], target: int) -> bool:
    """An independent judge: read by shunting-yard into postfix, evaluate with a stack, compare
    sorted numbers.
    """
    rank = {"+": 1, "-": 1, "*": 2, "/": 2}
    output: list = []
    stack: list[str] = []
    digits = ""
    for sign in text.replace("×", "*") + " ":
        if sign.isdigit():
            digits += sign
            continue
        if digits:
            output.append(int(digits))
            digits = ""
        if sign in rank:
            while stack and rank.get(stack[-1], 0) >= rank[sign]:
                output.append(stack.pop())
            stack.append(sign)
        elif sign == "(":
            stack.append(sign)
        elif sign == ")":
            while stack[-1] != "(":
                output.append(stack.pop())
            stack.pop()
    output += reversed(stack)
    values: list[Fraction] = []
    for item in output:
        if isinstance(item, int):
            values.append(Fraction(item))
            continue
        b, a = values.pop(), values.pop()
        if item == "/" and b == 0:
            return False
        values.append(SIGNS[item](a, b))
    used = sorted(item for item in output if isinstance(item, int))
    return values == [target] and used == sorted(numbers)


def mutate(text: str, chance: random.Random) -> str:
    """Change, swap or move one number or sign, keeping the text well formed."""
    places = [index for index, sign in enumerate(text) if sign in "+-*/×"]
    kind = chance.randrange(3)
    if kind == 0:
        at = chance.choice(places)
        return text[:at] + chance.choice("+-*/") + text[at + 1 :]
    tokens = [
        "".join(group)
        for _, group in itertools.groupby(
            text, key=lambda sign: (sign.isdigit(), "" if sign.isdigit() else object())
        )
    ]
    at = [index for index, token in enumerate(tokens) if token.isdigit()]
    if kind == 1:
        tokens[chance.choice(at)] = str(chance.randint(1, 13))
    else:
        one, other = chance.sample(at, 2)
        tokens[one], tokens[other] = tokens[other], tokens[one]
    return "".join(tokens)
