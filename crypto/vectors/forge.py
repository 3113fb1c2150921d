"""What must be refused: the good session with one thing changed, and the invariant that refuses it.

Each case says `set` (JSON pointers into session.json, each with its new value), `check` (the step that must refuse),
`rule` and `blamed` (the silo named, or null). Everything before that step is as the change leaves it and must still
pass: where a dishonest silo could have signed what it changed, it has. `by_signature` says that the signature is what
fails, so that no case is refused for another reason than its own.
"""

from forged_setup import Setup
from forged_signatures import Signatures
from forged_sums import Sums


class Everything(Setup, Sums, Signatures):
    """All forgeries of one session."""


def negative_json(session, other):
    forger = Everything(session, other)
    for collect in (
        forger.rosters,
        forger.parameters,
        forger.contexts,
        forger.adverts,
        forger.headers,
        forger.dealings,
        forger.deliveries,
        forger.bundles,
        forger.complaints,
        forger.masked,
        forger.survivor_lists,
        forger.votes,
        forger.reveals,
        forger.recoveries,
        forger.sketches,
        forger.sums,
        forger.signatures,
    ):
        collect()
    names = [(c["check"], c["what"]) for c in forger.cases]
    assert len(names) == len(set(names)), [n for n in names if names.count(n) > 1]
    return {"cases": forger.cases, "limits": forger.limits(), "confusions": forger.confusions()}
