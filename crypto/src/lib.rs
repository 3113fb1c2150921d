//! One secure-aggregation session as pure state machines: keys, masks, shares, fixed point, transcript.
