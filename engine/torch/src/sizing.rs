//! How many tokens a micro-batch has: as many as keep their activations inside a share of the memory that is free.
//!
//! Contract: an estimate, not a promise: twice the numbers that a layer's backward pass keeps, which is what processes were
//! seen to take (MiniLM 0.2 MB a token in bf16, SmolLM2-135M 1.2 MB). A longer single example still makes a micro-batch of
//! its own.

use blindsum_adapter::BaseShape;
use tch::{Device, Kind};

/// More tokens make no step faster on a processor.
const MOST_ON_PROCESSOR: usize = 1024;
/// On a card larger products are faster; its free memory is not asked for.
const MOST_ON_CARD: usize = 8192;
/// Fewer leave matrix products too small.
const FEWEST: usize = 128;

/// Bytes of activations that one token keeps until its backward pass.
pub(super) fn bytes_per_token(shape: &BaseShape, kind: Kind, checkpointing: bool) -> usize {
    let number = if kind == Kind::Float { 4 } else { 2 };
    // query, key, value, context, output, two norms; up to four vectors inside the feed-forward layer
    let layer = 7 * shape.hidden + 4 * shape.intermediate;
    let kept = if checkpointing { layer + shape.layers * shape.hidden } else { shape.layers * layer };
    2 * number * kept
}

/// Tokens in one micro-batch, where each of `threads` works on one and `free` bytes are to be had, if that is known.
pub(super) fn micro_batch_tokens(per_token: usize, threads: usize, free: Option<usize>, device: Device) -> usize {
    let most = if device == Device::Cpu { MOST_ON_PROCESSOR } else { MOST_ON_CARD };
    // half of what is free: per-example gradients, logits and other programs need the rest
    let fitting = free.map_or(most, |free| free / 2 / threads.max(1) / per_token.max(1));
    fitting.clamp(FEWEST, most)
}

/// Memory that is free for this process, from Linux's /proc; `None` elsewhere.
pub(super) fn free_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(hidden: usize, layers: usize, inner: usize) -> BaseShape {
        let text = format!(
            "{{\"model_type\": \"bert\", \"vocab_size\": 10, \"hidden_size\": {hidden}, \"num_hidden_layers\": {layers}, \
             \"num_attention_heads\": 4, \"intermediate_size\": {inner}, \"max_position_embeddings\": 512}}"
        );
        BaseShape::from_config_json(&text).unwrap()
    }

    #[test]
    fn estimates_are_those_that_processes_were_seen_to_take() {
        assert_eq!(bytes_per_token(&shape(384, 6, 1536), Kind::BFloat16, false), 211_968);
        assert_eq!(bytes_per_token(&shape(576, 30, 1536), Kind::BFloat16, false), 1_221_120);
        assert!(bytes_per_token(&shape(576, 30, 1536), Kind::BFloat16, true) < 120_000);
    }

    #[test]
    fn tokens_follow_memory_between_bounds() {
        let tokens = |free| micro_batch_tokens(1_000_000, 2, free, Device::Cpu);
        assert_eq!((tokens(None), tokens(Some(64 << 30))), (1024, 1024));
        assert_eq!((tokens(Some(2_000_000_000)), tokens(Some(1 << 20))), (500, 128));
        assert_eq!(micro_batch_tokens(1_000_000, 1, None, Device::Cuda(0)), 8192);
        #[cfg(target_os = "linux")]
        assert!(free_memory().is_some_and(|free| free > 1 << 20));
    }
}
