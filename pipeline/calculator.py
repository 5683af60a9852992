"""Arithmetic as text to its value.

Rule 1: nothing is ever evaluated but numbers, `+ - * / // % **`, parentheses and the functions and names below; the
expression is read by `ast.parse` and walked, never compiled.
Rule 2: what an operation may cost is checked before it is done.
"""

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Final

MOST_CHARS = 200
MOST_NODES = 100
MOST_BITS = 1024  # of a whole number; also keeps its text below the 4,300 digits that Python would print

Number = int | float


class CannotCalculate(ValueError):
    """The expression is not arithmetic, has no value, or asks for too much. The message is safe to show."""


def _round(value: Number, digits: int = 0) -> Number:
    if abs(digits) > 300:
        raise CannotCalculate("So many digits cannot be rounded to.")  # Python would build that power of ten
    return round(value, digits) if digits else round(value)


NAMES: Final[dict[str, float]] = {"pi": math.pi, "e": math.e}
FUNCTIONS: Final[dict[str, Callable[..., Number]]] = {
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "max": max,
    "min": min,
    "round": _round,
    "sqrt": math.sqrt,
}
_BINARY: Final[dict[type[ast.operator], Callable[[Number, Number], Number]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_CHARS = re.compile(r"[0-9a-z.,+\-*/%() ]+")
# Python would warn of these, and reads some of them otherwise than people do.
_GLUED = re.compile(r"(?:\d|\.)(?!e[+-]?\d)[a-z]|[a-z]+\d|0[xob]")


def calculate(expression: str) -> str:
    """The value as text, to twelve digits where it is not whole. Raises CannotCalculate."""
    text = " ".join(expression.lower().split())
    if not text or len(text) > MOST_CHARS:
        raise CannotCalculate(f"An expression has 1 to {MOST_CHARS} characters.")
    if not _CHARS.fullmatch(text) or _GLUED.search(re.sub(r"\de[+-]?\d", "0", text)):
        raise CannotCalculate("An expression is made of numbers, + - * / // % **, parentheses and a few functions.")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise CannotCalculate("This is not an arithmetic expression.") from None
    if sum(1 for _ in ast.walk(tree)) > MOST_NODES * 2:
        raise CannotCalculate("The expression has too many parts.")
    try:
        value = _value(tree.body)
    except ZeroDivisionError:
        raise CannotCalculate("Division by zero.") from None
    except (OverflowError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, CannotCalculate):
            raise
        raise CannotCalculate("The expression has no value within bounds.") from None
    return str(value) if isinstance(value, int) else f"{value:.12g}"


def _value(node: ast.expr) -> Number:  # noqa: PLR0911 - one return for each kind of part
    match node:
        case ast.Constant(value=bool() | complex()):
            pass
        case ast.Constant(value=int() | float() as number):
            return _bounded(number)
        case ast.Name(id=name) if name in NAMES:
            return NAMES[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _bounded(_BINARY[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS and args:
            return _bounded(FUNCTIONS[name](*(_value(each) for each in args)))
    raise CannotCalculate("The expression uses something that the calculator does not know.")


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if (base.bit_length() - 1) * exponent > MOST_BITS:
            raise CannotCalculate("The power is too large.")
        return _bounded(int(base**exponent))
    if base < 0 and exponent != int(exponent):
        raise CannotCalculate("A negative number has no such root.")
    return _bounded(float(base) ** float(exponent))


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise CannotCalculate("The number is too large.")
    if isinstance(value, float) and not math.isfinite(value):
        raise CannotCalculate("The number is too large.")
    return value
