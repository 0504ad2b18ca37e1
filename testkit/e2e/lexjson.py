"""JSON as it was written: values keep their text, so 1.0 is not 1, 2^53+1 stays itself and an escape is not its character.

A value is an `Object` (list of (raw name, value)), an `Array` (list of values) or a `str` holding the literal's own text.
"""

import json
import re

TOKEN = re.compile(r'[ \t\n\r]*([{}\[\],:]|"(?:[^"\\\x00-\x1f]|\\.)*"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)')


class Object(list):
    def get(self, name, default=None):
        return next((value for raw, value in self if json.loads(raw) == name), default)


class Array(list):
    pass


def parse(text):
    at = 0

    def token():
        nonlocal at
        match = TOKEN.match(text, at)
        if not match:
            raise ValueError(f"not JSON at {at}: {text[at : at + 40]!r}")
        at = match.end()
        return match[1]

    def value(first):
        if first == "{":
            members, name = Object(), token()
            while name != "}":
                if not name.startswith('"') or token() != ":":
                    raise ValueError(f"not a member at {at}")
                members.append((name, value(token())))
                if (name := token()) == ",":
                    name = token()
                elif name != "}":
                    raise ValueError(f"not an object at {at}")
            return members
        if first == "[":
            items, item = Array(), token()
            while item != "]":
                items.append(value(item))
                if (item := token()) == ",":
                    item = token()
                elif item != "]":
                    raise ValueError(f"not an array at {at}")
            return items
        if first in "]},:":
            raise ValueError(f"unexpected {first!r} at {at}")
        return first

    found = value(token())
    if text[at:].strip(" \t\r\n"):
        raise ValueError(f"more after the value at {at}: {text[at : at + 40]!r}")
    return found


def write(value):
    """The value's text again, without the space between tokens."""
    if isinstance(value, Object):
        return "{" + ",".join(f"{name}:{write(inner)}" for name, inner in value) + "}"
    if isinstance(value, Array):
        return "[" + ",".join(map(write, value)) + "]"
    return value


def plain(value):
    """The value as ordinary Python data, numbers rounded as usual."""
    return json.loads(write(value))


def differences(one, two, path=""):
    """Where two values differ, as (path, text in one, text in two); None stands for absent."""
    if isinstance(one, Object) and isinstance(two, Object):
        names_one, names_two = [name for name, _ in one], [name for name, _ in two]
        if names_one == names_two:
            for (name, left), (_, right) in zip(one, two):
                yield from differences(left, right, f"{path}.{name[1:-1]}")
            return
        left, right = dict(one), dict(two)
        if len(left) < len(names_one) or len(right) < len(names_two) or sorted(names_one) == sorted(names_two):
            yield path, f"members in the order {names_one}", f"members in the order {names_two}"
            return
        for name in dict.fromkeys(names_one + names_two):
            if name not in left or name not in right:
                yield f"{path}.{name[1:-1]}", write(left[name]) if name in left else None, write(right[name]) if name in right else None
            else:
                yield from differences(left[name], right[name], f"{path}.{name[1:-1]}")
    elif isinstance(one, Array) and isinstance(two, Array):
        for i in range(max(len(one), len(two))):
            if i >= len(one) or i >= len(two):
                yield f"{path}[{i}]", write(one[i]) if i < len(one) else None, write(two[i]) if i < len(two) else None
            else:
                yield from differences(one[i], two[i], f"{path}[{i}]")
    elif write(one) != write(two):
        yield path, write(one), write(two)
