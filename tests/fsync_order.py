#!/usr/bin/env python3
"""Reads what strace saw of a silo of the harness: each journal entry must be written and fsynced before the silo goes on.

    mkdir /tmp/order
    BLINDSUM_STRACE=/tmp/order BLINDSUM_CRASH=none cargo test --release -p blindsum-tests --test federation -- sa07_a_silo_killed
    python3 tests/fsync_order.py /tmp/order/south.strace

The silo says "done journal:..." after it executed a journal output, and "done send:..." after it handed a message to the
connection; strace sees those lines as write(1, ...), in one order with the calls on the journal's file. Exit code 1 where an
entry was not on the disk when the silo went on, or where the trace holds no journal at all.
"""

import re
import sys

CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\((.*)| resumed>(.*))$")


def main(path):
    journal, state, order, entries, faults = None, "clean", [], 0, []
    pending = {}
    for line in open(path, errors="replace"):
        found = CALL.match(line.rstrip())
        if not found:
            continue
        thread, call, args, rest = found.groups()
        done = "unfinished" not in line
        if args is not None:
            pending[thread] = args
        else:
            args = pending.get(thread, "")
        result = line.rstrip().rsplit("= ", 1)[-1] if done and "= " in line else None
        fd = args.split(",")[0].split(")")[0].split(" ")[0]
        if call == "openat" and '/journal"' in args and result and result.isdigit():
            journal = result
        elif call == "write" and fd == journal and rest is None:
            state = "written"
            order.append("write")
        elif call == "fsync" and fd == journal and result == "0":
            state = "synced"
            order.append("fsync")
        elif call == "write" and fd == "1" and rest is None and '"done ' in args:
            label = args.split('"done ')[1].split("\\n")[0]
            if label.startswith("journal:"):
                entries += 1
                if state != "synced":
                    faults.append(f"{label}: its entry is {state}, not synced")
                print(f"{' '.join(order[-2:]):12}  then  {label}")
                state = "clean"
            elif state == "written":
                faults.append(f"{label}: an entry is written, but not synced")
            elif label.startswith("send:"):
                print(f"{'':12}        {label}")
    print(f"{entries} journal entries, {len(faults)} out of order")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults or entries == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
