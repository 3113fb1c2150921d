//! The agent service of one organisation: policy, data, training engine, privacy, journal, ledger.
