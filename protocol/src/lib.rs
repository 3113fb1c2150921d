//! What travels and when: the job, messages, codec, limits, and the two machines of a round.
