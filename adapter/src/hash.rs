//! The hashes that pin what everybody trains: of the layout, of A, and of the whole model.
//!
//! Every input is prefixed by its length and every hash by its own label, so that no two different inputs meet in one
//! hash (SHA-256, FIPS 180-4).

use sha2::{Digest, Sha256};

use crate::AdapterLayout;
use crate::init::a_of;

/// SHA-256 over a label and length-prefixed fields.
pub(crate) struct FieldHasher(Sha256);

impl FieldHasher {
    pub(crate) fn new(label: &str) -> Self {
        FieldHasher(Sha256::new()).field(label.as_bytes())
    }

    pub(crate) fn field(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.field(&value.to_le_bytes())
    }

    /// A vector by the little-endian bits of its numbers, so that −0 and 0 differ as they do on disk.
    pub(crate) fn f32s(mut self, values: &[f32]) -> Self {
        self.0.update((values.len() as u64 * 4).to_le_bytes());
        for value in values {
            self.0.update(value.to_le_bytes());
        }
        self
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// SHA-256 of the base model's files, as they lie in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseHashes {
    /// Of `config.json`.
    pub config: [u8; 32],
    /// Of the weights: of `model.safetensors`, or of the list of its shards.
    pub weights: [u8; 32],
    /// Of `tokenizer.json`.
    pub tokenizer: [u8; 32],
}

/// Hash of all A matrices as drawn, in module order.
pub fn a_hash(a: &[Vec<f32>]) -> [u8; 32] {
    let hasher = FieldHasher::new("blindsum lora_A v1").u64(a.len() as u64);
    a.iter().fold(hasher, |hasher, matrix| hasher.f32s(matrix)).finish()
}

/// Hash of the A's of each generation that a job may reach, from the first: each is over the one before and the
/// generation's own.
pub fn a_hashes(layout: &AdapterLayout, generations: usize) -> Vec<[u8; 32]> {
    let mut hashes = vec![a_hash(&a_of(layout, 0))];
    for generation in 1..generations {
        let own = a_hash(&a_of(layout, generation as u64));
        let hasher = FieldHasher::new("blindsum lora_A generations v1").field(&hashes[generation - 1]);
        hashes.push(hasher.field(&own).finish());
    }
    hashes
}

/// Hash of the model that a round starts from or ends in: base model, layout, A as drawn and the whole state
/// ([`StateLayout`](crate::StateLayout)).
///
/// Two silos with the same hash compute the same function up to the rounding of their matrix products. A frozen head
/// is covered through the layout's seed.
pub fn model_hash(base: BaseHashes, layout: &AdapterLayout, a_hash: [u8; 32], state: &[f32]) -> [u8; 32] {
    FieldHasher::new("blindsum model v1")
        .field(&base.config)
        .field(&base.weights)
        .field(&base.tokenizer)
        .field(&layout.hash())
        .field(&a_hash)
        .f32s(state)
        .finish()
}
