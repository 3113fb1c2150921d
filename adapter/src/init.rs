//! The values that every silo draws alike from the job's public seed: A, and the head's initial weights.
//!
//! # The stream (version 1)
//! Each matrix has its own ChaCha20 stream (RFC 8439 block function with 64-bit counter from 0 and nonce 0). Its key is
//! SHA-256 over label, seed (8 bytes little-endian) and module path, each preceded by its length in 8 bytes
//! little-endian; the label is `blindsum lora_A stream v1`, or `blindsum head stream v1` with the path of the
//! head's layer (`classifier`). An A of a later generation (`lora.refresh_rounds`) has the label
//! `blindsum lora_A refresh stream v1` and the generation, from 1, as a further field like the seed.
//! The key stream is read as `u64` little-endian, one after the other, in the matrix's row-major order:
//! - uniform on `[0, 1)`: `u = (x >> 11) · 2⁻⁵³`;
//! - a pair of Gaussians (Box and Muller 1958): from two such numbers `ρ = √(−2·ln(1 − u₁))`, then `ρ·cos(2π·u₂)` and
//!   `ρ·sin(2π·u₂)`; of a last odd pair the second is thrown away.
//!
//! Everything is `f64` in this order with `libm`'s `log`, `sin` and `cos`, IEEE `+ − × ÷ √`, and rounded to `f32` once
//! at the end. So the outcome is the same bits on every machine, as the model hash requires; the tests freeze it.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::hash::FieldHasher;
use crate::{AdapterLayout, Head, Init, Module};

/// Draws the first A of every module: `[r, in_features]` row-major, in module order.
pub fn init_a(layout: &AdapterLayout) -> Vec<Vec<f32>> {
    a_of(layout, 0)
}

/// Draws the A's of the first `generations` generations, one below the other: `[generations·r, in_features]` row-major
/// for each module, oldest first.
pub fn a_stack(layout: &AdapterLayout, generations: usize) -> Vec<Vec<f32>> {
    let mut stack = init_a(layout);
    for generation in 1..generations {
        for (stack, a) in stack.iter_mut().zip(a_of(layout, generation as u64)) {
            stack.extend(a);
        }
    }
    stack
}

/// Draws A of one generation.
pub(crate) fn a_of(layout: &AdapterLayout, generation: u64) -> Vec<Vec<f32>> {
    let lora = layout.lora();
    let draw = |module: &Module| {
        let stream = match generation {
            0 => Draws::new("blindsum lora_A stream v1", lora.seed, &module.path),
            _ => Draws::refresh(lora.seed, &module.path, generation),
        };
        match lora.init {
            Init::KaimingUniform => kaiming_uniform(stream, layout.rank(), module.in_features),
            Init::Orthonormal => orthonormal(stream, layout.rank(), module.in_features),
        }
    };
    layout.modules().iter().map(draw).collect()
}

/// Draws the head's initial value: weights `[out_features, in_features]` row-major from N(0, `initializer_range`²), as
/// Hugging Face initialises a new head, layer after layer, and biases zero.
pub fn init_head(layout: &AdapterLayout) -> (Vec<f32>, Vec<f32>) {
    let scale = layout.shape().initializer_range;
    let mut weights = Vec::with_capacity(layout.head_weights());
    for layer in layout.head_layers() {
        let mut stream = Draws::new("blindsum head stream v1", layout.lora().seed, layer.path);
        weights.extend(stream.gaussians(layer.out_features * layer.in_features).iter().map(|g| (scale * g) as f32));
    }
    (weights, vec![0.0; layout.head_biases()])
}

/// The values that the first round starts from: zero for every B, then the initial head where it is trained, then the
/// first A where it is.
pub fn initial_values(layout: &AdapterLayout) -> Vec<f32> {
    let mut values = vec![0.0; layout.b_len()];
    if layout.lora().head == Head::Trained {
        let (weight, bias) = init_head(layout);
        values.extend(weight);
        values.extend(bias);
    }
    if layout.trains_a() {
        values.extend(init_a(layout).into_iter().flatten());
    }
    values
}

/// Uniform on (−1/√in, 1/√in), which is `kaiming_uniform_(a=√5)`: bound `√(6 / ((1 + a²)·in))`.
fn kaiming_uniform(mut stream: Draws, r: usize, in_features: usize) -> Vec<f32> {
    let bound = 1.0 / (in_features as f64).sqrt();
    (0..r * in_features).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect()
}

/// Gaussian rows made orthonormal by modified Gram–Schmidt, each row against those before it, twice (the second pass
/// removes what rounding left: "twice is enough", Giraud et al. 2005).
fn orthonormal(mut stream: Draws, r: usize, in_features: usize) -> Vec<f32> {
    let mut rows = stream.gaussians(r * in_features);
    for i in 0..r {
        let (done, rest) = rows.split_at_mut(i * in_features);
        let row = &mut rest[..in_features];
        for _ in 0..2 {
            for other in done.chunks_exact(in_features) {
                let along = dot(row, other);
                for (x, o) in row.iter_mut().zip(other) {
                    *x -= along * o;
                }
            }
            // r ≤ in and Gaussian rows: the remainder is zero only with probability zero, and the frozen seed decides
            // it alike for everybody.
            let norm = dot(row, row).sqrt();
            for x in row.iter_mut() {
                *x /= norm;
            }
        }
    }
    rows.iter().map(|&x| x as f32).collect()
}

/// Sum of products from left to right.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// The numbers of one matrix.
struct Draws(ChaCha20Rng);

impl Draws {
    fn new(label: &str, seed: u64, path: &str) -> Self {
        Draws(ChaCha20Rng::from_seed(FieldHasher::new(label).u64(seed).field(path.as_bytes()).finish()))
    }

    /// A of a later generation.
    fn refresh(seed: u64, path: &str, generation: u64) -> Self {
        let hasher = FieldHasher::new("blindsum lora_A refresh stream v1").u64(seed).field(path.as_bytes());
        Draws(ChaCha20Rng::from_seed(hasher.u64(generation).finish()))
    }

    fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    fn gaussians(&mut self, count: usize) -> Vec<f64> {
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            let radius = (-2.0 * libm::log(1.0 - self.uniform())).sqrt();
            let angle = 2.0 * std::f64::consts::PI * self.uniform();
            values.push(radius * libm::cos(angle));
            values.push(radius * libm::sin(angle));
        }
        values.truncate(count);
        values
    }
}
