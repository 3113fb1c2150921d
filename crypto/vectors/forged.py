"""What every forgery needs: cases, flipped bits, and the points that an attacker would choose."""

import hashlib

from derive import *
from honest import *

P = 2**255 - 19


def flipped(value):
    """First and last bit of a byte string, or the two lowest of a number."""
    if isinstance(value, int):
        return [value ^ 1, value ^ 2]
    return [bytes([value[0] ^ 1]) + value[1:], value[:-1] + bytes([value[-1] ^ 0x80])]


def little(value):
    return value.to_bytes(32, "little")


class Forger:
    """Collects cases about one session; `other` is another attempt of the same silos at the same round."""

    def __init__(self, session, other):
        self.s, self.other, self.cases = session, other, []

    def add(self, what, check, rule, blamed, change, **more):
        self.cases.append({"what": what, "check": check, "rule": rule, "blamed": blamed, "set": change, **more})


def small_order_r(seed, message):
    """R the neutral point, S = k a: the equation of RFC 8032 section 5.1.7 holds, and only a rule about R refuses it.
    It takes the secret key, so no stranger can do it; it would give a silo two signatures over one message."""
    half = bytearray(hashlib.sha512(seed).digest()[:32])
    half[0] &= 248
    half[31] = half[31] & 127 | 64
    a, neutral = int.from_bytes(half, "little"), little(1)
    k = int.from_bytes(hashlib.sha512(neutral + identity_public(seed) + message).digest(), "little")
    return neutral + little(k * a % ORDER)


def small_order_identities():
    """The eight points whose order divides 8, and their other encodings."""
    eight = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
    other_eight = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
    top = 1 << 255
    found = [
        ("order 1", little(1)),
        ("order 2", little(P - 1)),
        ("order 4", little(0)),
        ("order 4, negative", little(top)),
    ]
    for name, text in (("order 8", eight), ("order 8, the other", other_eight)):
        number = int.from_bytes(bytes.fromhex(text), "little")
        found += [(name, little(number)), (f"{name}, negative", little(number | top))]
    found += [
        ("order 1, y = p + 1", little(P + 1)),
        ("order 4, y = p", little(P)),
        ("order 4, y = p, negative", little(P | top)),
    ]
    return found + [
        ("order 1, with a sign", little(1 | top)),
        ("order 2, with a sign", little(P - 1 | top)),
        ("order 1, y = p + 1, with a sign", little(P + 1 | top)),
    ]


def low_order_exchange_keys():
    """RFC 7748 section 6.1: u-coordinates that give zero, canonical or not."""
    eight = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
    other_eight = "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"
    keys = [
        ("u = 0", little(0)),
        ("u = 1", little(1)),
        ("u = p - 1", little(P - 1)),
        ("u = p", little(P)),
        ("u = p + 1", little(P + 1)),
    ]
    return keys + [("order 8", bytes.fromhex(eight)), ("order 8, the other", bytes.fromhex(other_eight))]
