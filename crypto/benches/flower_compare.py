#!/usr/bin/env python3
"""The same work through Flower's SecAgg+ and through blindsum, one after the other, in one table.

    make bench-flower

Flower's side runs Flower's own functions: the client stages of its SecAgg+ mod as they are; the server's summing and
unmasking stages call by call, without their message passing and without dequantisation. Sixteen participants, threshold
11, d coordinates in one array, values clipped to 0.5 and quantised to 2^16 levels, Flower's default modulus 2^32. Keys,
shares and messages are made outside the clock, as on our side. Both sides run on the one processor that this script is
pinned to (make bench-flower uses taskset), ours in a child process before Flower's. The arguments are the command that
runs our benchmark, to which `--json FILE` is added.
"""
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time

import flwr
import numpy as np
from flwr.common import ndarrays_to_parameters
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.server.workflow.secure_aggregation import secaggplus_workflow as server

# by its full name, since the package exports a function under the module's
client = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
D, N, THRESHOLD, MODULUS, LEVELS, CLIP = 2_097_152, 16, 11, 1 << 32, 1 << 16, 0.5
RUNS = 20


def timed(work, runs=RUNS):
    """Median and minimum of some runs after one that does not count, in ms, and the last result."""
    result, times = work(), []
    for _ in range(runs):
        begin = time.perf_counter()
        result = work()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times), min(times), result


def shared_keys():
    """N client states that have dealt their shares, and for each the ciphertexts that it received: {source: ciphertext}."""
    states = {nid: client.SecAggPlusState() for nid in range(1, N + 1)}
    setup = {Key.SAMPLE_NUMBER: N, Key.SHARE_NUMBER: N, Key.THRESHOLD: THRESHOLD, Key.CLIPPING_RANGE: CLIP,
             Key.TARGET_RANGE: LEVELS, Key.MOD_RANGE: MODULUS, Key.MAX_WEIGHT: 1.0}
    keys, received = {}, {nid: {} for nid in states}
    for nid, state in states.items():
        state.nid = nid
        public = client._setup(state, setup)
        keys[str(nid)] = (public[Key.PUBLIC_KEY_1], public[Key.PUBLIC_KEY_2])
    for nid, state in states.items():
        sent = client._share_keys(state, keys)
        for to, ciphertext in zip(sent[Key.DESTINATION_LIST], sent[Key.CIPHERTEXT_LIST]):
            received[to][nid] = ciphertext
    return states, received


def mask(state, received, parameters):
    """The client's whole third stage: decrypt shares, clip, quantise, a self mask and 15 pair masks, serialise."""
    configs = {Key.CIPHERTEXT_LIST: list(received.values()), Key.SOURCE_LIST: list(received)}
    return client._collect_masked_vectors(state, configs, 1, parameters)[Key.MASKED_PARAMETERS]


def unmask(total, shares, active, keys):
    """The server's unmasking: rebuild each secret, take off the self mask of the active, the pair masks of the dropped."""
    for nid, held in shares.items():
        secret = server.combine_shares(held)
        shape = server.get_parameters_shape(total)
        if nid in active:
            total = server.parameters_subtraction(total, server.pseudo_rand_gen(secret, MODULUS, shape))
            continue
        for peer in active:
            key = server.generate_shared_key(server.bytes_to_private_key(secret), server.bytes_to_public_key(keys[peer][0]))
            pair = server.pseudo_rand_gen(key, MODULUS, shape)
            change = server.parameters_addition if nid > peer else server.parameters_subtraction
            total = change(total, pair)
    return server.parameters_mod(total, MODULUS)


def flower():
    """{work: (median ms, minimum ms)}, and bytes up per coordinate."""
    rows, (states, received) = {}, shared_keys()
    rng = np.random.default_rng(1)
    values = [((rng.random(D, dtype=np.float32) - np.float32(0.5)) * np.float32(1.01)) for _ in range(2)]
    parameters = [ndarrays_to_parameters([v]) for v in values]
    first = states[1]
    rows["mask"] = timed(lambda: mask(first, received[1], parameters[0]))
    up = sum(len(part) for part in rows["mask"][2]) / D
    active = [nid for nid in states if nid != N]
    masked = {nid: mask(states[nid], received[nid], parameters[nid % 2]) for nid in active}
    arrays = {nid: [server.bytes_to_ndarray(part) for part in parts] for nid, parts in masked.items()}
    total = arrays[active[0]]
    for nid in active[1:]:
        total = server.parameters_addition(total, arrays[nid])
    total = server.parameters_mod(total, MODULUS)
    rows["add"] = timed(lambda: server.parameters_addition(
        total, [server.bytes_to_ndarray(part) for part in masked[active[0]]]))
    shares = {nid: [] for nid in states}
    for nid in active:
        reply = client._unmask(states[nid], {Key.ACTIVE_NODE_ID_LIST: active, Key.DEAD_NODE_ID_LIST: [N]})
        for owner, share in zip(reply[Key.NODE_ID_LIST], reply[Key.SHARE_LIST]):
            shares[owner].append(share)
    rows["unmask"] = timed(lambda: unmask(total, shares, active, first.public_keys_dict))
    # the sum must be the sum, or the clock measured something else
    factor, sums = server.factor_extract(rows["unmask"][2])
    expected = sum(np.clip(values[nid % 2].astype(float), -CLIP, CLIP) + CLIP for nid in active) * (LEVELS / (2 * CLIP))
    assert factor == LEVELS * len(active) and np.abs(sums[0] - expected).max() <= len(active), "Flower's sum is wrong"
    secret = bytes(range(32))
    rows["deal"] = timed(lambda: client.create_shares(secret, 43, 64))
    dealt = rows["deal"][2]
    rows["rebuild"] = timed(lambda: server.combine_shares(dealt[:43]))
    assert rows["rebuild"][2] == secret
    return {name: row[:2] for name, row in rows.items()}, up


def ours(command):
    """The rows of our benchmark by name."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([*command, "--json", file.name], check=True)
        return {row["name"]: row for row in json.load(file)}


def main():
    rows = ours(sys.argv[1:])
    theirs, up = flower()

    def own(*names):
        found = [rows[name] for name in names]
        return sum(row["median_ms"] for row in found), sum(row["min_ms"] for row in found)

    small = f"; d = {D}"
    table = [
        ("participant: seeds, quantise, 16 masks, pack", theirs["mask"],
         own("silo: derive 16 seeds", f"silo: clip, quantise, then masks, pack{small}")),
        ("server: add one masked vector", theirs["add"], own(f"coordinator: add one masked input{small}")),
        ("server: shares to sum, one drop of 16", theirs["unmask"],
         own(f"coordinator: replies to S, one drop of 16{small}")),
        ("Shamir n=64 t=43: deal one secret", theirs["deal"], own("Shamir n=64 t=43: deal one secret")),
        ("Shamir n=64 t=43: rebuild one secret", theirs["rebuild"], own("Shamir n=64 t=43: rebuild one secret")),
    ]
    print(f"\nd = {D}, {N} participants, one processor, {RUNS} runs or more; milliseconds, median (minimum)")
    print(f"{'work':<48}{'Flower ' + flwr.__version__:>22}{'blindsum':>22}{'ratio':>8}")
    for name, (median, least), (own_median, own_least) in table:
        print(f"{name:<48}{f'{median:.2f} ({least:.2f})':>22}{f'{own_median:.2f} ({own_least:.2f})':>22}"
              f"{median / own_median:>8.1f}")
    own_up = rows["bytes up per coordinate"]["value"]
    print(f"{'bytes up per coordinate':<48}{up:>22.2f}{own_up:>22.2f}{up / own_up:>8.1f}")
    print("Flower's masks come from numpy's Mersenne Twister with a 32-bit seed, ours from AES-256; ours also checks every "
          "revealed share\nagainst a signed commitment, and every rebuilt secret against what was advertised.")


if __name__ == "__main__":
    sys.exit(main())
