"""Hashes, keys, shares, masks and packing, as oracle.py describes them."""

import hashlib
import hmac
import struct
from fractions import Fraction

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

ROWS = 128
ORDER = 2**252 + 27742317777372353535851937790883648493
SUITE = "x25519 ed25519 hkdf-sha256 aes-256-gcm aes-256-ctr shamir-curve25519"


def drawn(name, length):
    """The bytes that stand in for randomness."""
    return hashlib.shake_256(b"blindsum vectors 1: " + name.encode()).digest(length)


# --------------------------------------------------------------------------------------------------------------- hashes


def u64(value):
    return value.to_bytes(8, "little")


def sid(silo):
    return silo.to_bytes(2, "little")


def H(label, *fields):
    """H(label; fields...): bytes are fields as they are, integers become 8 bytes little-endian."""
    text = b""
    for field in ("blindsum/1/" + label, *fields):
        raw = field.encode() if isinstance(field, str) else u64(field) if isinstance(field, int) else field
        text += u64(len(raw)) + raw
    return hashlib.sha256(text).digest()


def hkdf(secret, salt, label, *parts):
    """RFC 5869 with one block of output."""
    name = ("blindsum/1/" + label).encode()
    info = bytes([len(name)]) + name + b"".join(parts)
    prk = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def merkle_root(leaves):
    """RFC 9162's shape: the left half is the largest power of two below the number of leaves."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return H("node", merkle_root(leaves[:half]), merkle_root(leaves[half:]))


def merkle_path(leaves, place):
    """Siblings from the leaf upwards."""
    if len(leaves) == 1:
        return []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = leaves[:half], leaves[half:]
    if place < half:
        return merkle_path(left, place) + [merkle_root(right)]
    return merkle_path(right, place - half) + [merkle_root(left)]


# ------------------------------------------------------------------------------------------------------ keys and shares


def x25519_public(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def x25519(secret, public):
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def identity_public(seed):
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed, label, ctx, signer, *fields):
    return Ed25519PrivateKey.from_private_bytes(seed).sign(H(label, ctx, sid(signer), *fields))


def scalar(wide):
    """A uniform scalar from 64 bytes."""
    return int.from_bytes(wide, "little") % ORDER


def raw(value):
    return value.to_bytes(32, "little")


def polynomial(coefficients, x):
    return sum(c * pow(x, k, ORDER) for k, c in enumerate(coefficients)) % ORDER


def rebuilt(shares):
    """Lagrange at zero from {silo: share}; the share of silo i lies at x = i + 1."""
    total = 0
    for i, share in shares.items():
        top, bottom = 1, 1
        for j in shares:
            if j != i:
                top, bottom = top * (j + 1) % ORDER, bottom * (j - i) % ORDER
        total += share * top * pow(bottom, -1, ORDER)
    return total % ORDER


def mask_secret(sigma, ctx):
    """clamp(HKDF(sigma, salt = ctx)), RFC 7748 section 5."""
    key = bytearray(hkdf(raw(sigma), ctx, "mask-secret"))
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return bytes(key)


# ---------------------------------------------------------------------------------------------------- masks and packing


def keystream(seed, words, first=0):
    """AES-256-CTR from a zero counter block, as u32 little-endian words; `first` must be a multiple of 4."""
    cipher = Cipher(algorithms.AES(seed), modes.CTR((first // 4).to_bytes(16, "big"))).encryptor()
    return list(struct.unpack(f"<{words}I", cipher.update(bytes(4 * words))))


def pack(segments, lanes):
    """b bits per coordinate, least significant first; each segment starts on a byte and ends in zero bits."""
    out, place = b"", 0
    for s in segments:
        number = 0
        for k in range(s["length"]):
            number |= (lanes[place + k] % (1 << s["ring_bits"])) << (k * s["ring_bits"])
        place += s["length"]
        out += number.to_bytes((s["length"] * s["ring_bits"] + 7) // 8, "little")
    return out


def unpack(segments, packed):
    lanes, place = [], 0
    for s in segments:
        size = (s["length"] * s["ring_bits"] + 7) // 8
        number = int.from_bytes(packed[place : place + size], "little")
        place += size
        lanes += [(number >> (k * s["ring_bits"])) % (1 << s["ring_bits"]) for k in range(s["length"])]
    return lanes


def as_f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def fixed_point(values, words, segment):
    """Clip to +-C, scale by (2^(a-1) - 1) / C, round up where the random word is below the fraction times 2^32. Exact
    fractions, so that nothing depends on how a float rounds. Gives the residues and how many values were clipped."""
    top, bound = (1 << segment["value_bits"] - 1) - 1, Fraction(segment["bound"])
    lanes, clipped = [], 0
    for value, word in zip(values, words):
        clipped += abs(Fraction(value)) > bound
        x = max(-bound, min(bound, Fraction(value))) * top / bound
        whole = x.numerator // x.denominator
        lanes.append((whole + (word < (x - whole) * 2**32)) % (1 << segment["ring_bits"]))
    return lanes, clipped


# ----------------------------------------------------------------------------------------------------------- transcript


def advert_fields(a):
    return [a["channel_key"], a["mask_key"], u64(a["journal_length"]), a["journal_head"], bytes([a["counts"]])]


def ctx_of(context):
    return H("ctx", *context.values())


def t1_of(ctx, adverts):
    return H("t1", ctx, len(adverts), *(f for a in adverts for f in (sid(a["silo"]), *advert_fields(a))))


def t2_of(t1, headers):
    return H("t2", t1, len(headers), *(f for h in headers for f in (sid(h["silo"]), h["root"], h["commitment_b"])))


def t3_of(bind, entries):
    return H("t3", bind, len(entries), *(f for m in entries for f in (sid(m["silo"]), m["hash"])))


def shares_hash(shares):
    return H(
        "revealed-shares",
        len(shares),
        *(f for s in shares for f in (sid(s["peer"]), s["kind"].encode(), s["share"], s["nonce"])),
    )


def row_sets(key, coordinates):
    """128 bits per coordinate from AES-256-CTR, least significant first: the coordinates of each row."""
    words = keystream(key, 4 * coordinates)
    bits = [sum(words[4 * k + w] << 32 * w for w in range(4)) for k in range(coordinates)]
    return [[k for k in range(coordinates) if bits[k] >> r & 1] for r in range(ROWS)]


def subset_sums(segments, rows, lanes):
    """For each segment and row, the sum of the segment's coordinates in the row, mod 2^b."""
    values, start = [], 0
    for s in segments:
        end = start + s["length"]
        values += [sum(lanes[k] for k in row if start <= k < end) % (1 << s["ring_bits"]) for row in rows]
        start = end
    return values


def values_hash(values):
    return H("sketch-values", struct.pack(f"<{len(values)}I", *values))


def pair_hashes(pairs):
    hashed = [(p["leaves"]["b"], p["leaves"]["s"], H("ciphertext", p["sealed"])) for p in pairs]
    return [H("pair", sid(j), *fields) for j, fields in enumerate(hashed)]
