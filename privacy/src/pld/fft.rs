//! The Fourier transform of real sequences whose length is a power of two, with a proven bound on its rounding.
//!
//! ```text
//! n reals ─► n/2 complex numbers, pairwise ─► transform, bit-reversed order ─► untangled: the spectrum
//! ```
//!
//! Plain `f64` in a fixed order, sines from `libm`: the same bits on every machine, so that a noise multiplier that one
//! party certifies is certified everywhere. Powers and products of spectra need no order, so none is restored. In
//! bit-reversed order one root serves a whole block, and the frequencies k and −k mirror each other within the blocks
//! [2ᵐ, 2ᵐ⁺¹).
//!
//! Contract: each value of [`Transform::forward`] is off by at most [`Transform::rounding`] times the sum of the
//! absolute inputs, and each value of [`Transform::inverse`] by as much times the mean absolute value of the spectrum:
//! a butterfly multiplies by a root (√5 u for the product, 3 u for the root) and adds (u), with u = 2⁻⁵³, along log₂ n
//! levels and three more for the untangling.

use std::ops::{Add, Mul, Sub};

/// Unit roundoff of `f64`.
pub(super) const UNIT: f64 = f64::EPSILON / 2.0;
/// Blocks up to this length are transformed level by level, longer ones half by half, so that they stay in the cache.
const CACHED: usize = 2048;

/// A complex number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Complex {
    pub(super) re: f64,
    pub(super) im: f64,
}

impl Complex {
    pub(super) const ONE: Complex = Complex { re: 1.0, im: 0.0 };

    fn conj(self) -> Self {
        Complex { re: self.re, im: -self.im }
    }

    fn half(self) -> Self {
        Complex { re: self.re / 2.0, im: self.im / 2.0 }
    }

    /// i·self.
    fn turned(self) -> Self {
        Complex { re: -self.im, im: self.re }
    }

    pub(super) fn abs(self) -> f64 {
        (self.re * self.re + self.im * self.im).sqrt()
    }
}

impl Add for Complex {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Complex { re: self.re + other.re, im: self.im + other.im }
    }
}

impl Sub for Complex {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Complex { re: self.re - other.re, im: self.im - other.im }
    }
}

impl Mul for Complex {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Complex { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }
}

/// The roots of unity for one length.
pub(super) struct Transform {
    /// `exp(−iπ·v(j))`, where v(j) mirrors the bits of j at the binary point.
    roots: Vec<Complex>,
}

impl Transform {
    /// For `length` reals: a power of two, at least 4.
    pub(super) fn new(length: usize) -> Self {
        // v(low + 2⁹·high) = v(low) + v(high)/2⁹: two short exact tables make the long one.
        const LOW_BITS: u32 = 9;
        let mirrored = |j: u32| f64::from(j.reverse_bits()) / 2f64.powi(32);
        let root = |turn: f64| {
            let (sin, cos) = libm::sincos(-std::f64::consts::PI * turn);
            Complex { re: cos, im: sin }
        };
        let half = length / 2;
        let low: Vec<_> = (0..half.min(1 << LOW_BITS)).map(|j| root(mirrored(j as u32))).collect();
        let mut roots = low.clone();
        for high in 1..half >> LOW_BITS {
            let shift = root(mirrored(high as u32) / f64::from(1 << LOW_BITS));
            roots.extend(low.iter().map(|&root| root * shift));
        }
        Transform { roots }
    }

    /// Relative rounding of one transform, see the head of this file.
    pub(super) fn rounding(&self) -> f64 {
        8.0 * UNIT * f64::from(self.roots.len().ilog2() + 4)
    }

    /// The spectrum of n reals: n/2 numbers in bit-reversed order. The first holds two reals, the frequencies 0 and
    /// n/2; each other one stands for itself and its conjugate.
    pub(super) fn forward(&self, reals: &[f64]) -> Vec<Complex> {
        let mut a: Vec<_> = reals.chunks_exact(2).map(|pair| Complex { re: pair[0], im: pair[1] }).collect();
        split(&mut a, 0, &self.roots);
        a[0] = Complex { re: a[0].re + a[0].im, im: a[0].re - a[0].im };
        self.mirror(&mut a, |x, y, root| {
            let even = (x + y.conj()).half();
            let odd = (y.conj() - x).half().turned() * root;
            (even + odd, (even - odd).conj())
        });
        a
    }

    /// The n reals of a spectrum; undoes [`forward`](Self::forward).
    pub(super) fn inverse(&self, mut a: Vec<Complex>) -> Vec<f64> {
        a[0] = Complex { re: (a[0].re + a[0].im) / 2.0, im: (a[0].re - a[0].im) / 2.0 };
        self.mirror(&mut a, |x, y, root| {
            let even = (x + y.conj()).half();
            let odd = (x - y.conj()).half() * root.conj();
            (even + odd.turned(), even.conj() + odd.conj().turned())
        });
        join(&mut a, 0, &self.roots);
        let scale = 1.0 / a.len() as f64;
        a.iter().flat_map(|x| [x.re * scale, x.im * scale]).collect()
    }

    /// Applies `f` to the pairs of frequencies k and n/2 − k, k ≥ 1, with the root of k.
    fn mirror(&self, a: &mut [Complex], f: impl Fn(Complex, Complex, Complex) -> (Complex, Complex)) {
        // Frequency n/4 is its own mirror image.
        a[1] = f(a[1], a[1], self.roots[1]).0;
        let mut start = 2;
        while start < a.len() {
            for i in 0..start / 2 {
                let (j, k) = (start + i, 2 * start - 1 - i);
                (a[j], a[k]) = f(a[j], a[k], self.roots[j]);
            }
            start *= 2;
        }
    }
}

fn split_level(block: &mut [Complex], root: Complex) {
    let half = block.len() / 2;
    let (left, right) = block.split_at_mut(half);
    for (x, y) in left.iter_mut().zip(right) {
        let turned = *y * root;
        (*x, *y) = (*x + turned, *x - turned);
    }
}

fn join_level(block: &mut [Complex], root: Complex) {
    let half = block.len() / 2;
    let (left, right) = block.split_at_mut(half);
    for (x, y) in left.iter_mut().zip(right) {
        (*x, *y) = (*x + *y, (*x - *y) * root.conj());
    }
}

/// Transforms block number `index` of its level.
fn split(a: &mut [Complex], index: usize, roots: &[Complex]) {
    if a.len() > CACHED {
        split_level(a, roots[index]);
        let (left, right) = a.split_at_mut(a.len() / 2);
        split(left, 2 * index, roots);
        split(right, 2 * index + 1, roots);
        return;
    }
    let (mut length, mut first) = (a.len(), index);
    while length > 1 {
        for (block, &root) in a.chunks_exact_mut(length).zip(&roots[first..]) {
            split_level(block, root);
        }
        length /= 2;
        first *= 2;
    }
}

/// Undoes [`split`] but for a factor of the length.
fn join(a: &mut [Complex], index: usize, roots: &[Complex]) {
    if a.len() > CACHED {
        let (left, right) = a.split_at_mut(a.len() / 2);
        join(left, 2 * index, roots);
        join(right, 2 * index + 1, roots);
        join_level(a, roots[index]);
        return;
    }
    let (mut length, mut first) = (2, index * a.len() / 2);
    while length <= a.len() {
        for (block, &root) in a.chunks_exact_mut(length).zip(&roots[first..]) {
            join_level(block, root);
        }
        length *= 2;
        first /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<f64> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / 2f64.powi(53)
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn the_spectrum_is_that_of_the_definition() {
        for length in [4usize, 8, 64, 8192] {
            let x = noise(length);
            let transform = Transform::new(length);
            let spectrum = transform.forward(&x);
            let bits = (length / 2).ilog2();
            for j in (0..length / 2).step_by((length / 64).max(1)) {
                let k = if j == 0 { 0 } else { j.reverse_bits() >> (usize::BITS - bits) };
                let direct = |k: usize| {
                    x.iter().enumerate().fold(Complex { re: 0.0, im: 0.0 }, |sum, (i, value)| {
                        let turn = (i * k % length) as f64 / length as f64;
                        let (sin, cos) = libm::sincos(-2.0 * std::f64::consts::PI * turn);
                        sum + Complex { re: value * cos, im: value * sin }
                    })
                };
                let expected = if j == 0 { Complex { re: direct(0).re, im: direct(length / 2).re } } else { direct(k) };
                let bound = 2.0 * transform.rounding() * x.iter().sum::<f64>();
                assert!((spectrum[j] - expected).abs() < bound, "{length} {k}: {:?} {expected:?}", spectrum[j]);
            }
        }
    }

    #[test]
    fn the_inverse_undoes_it() {
        for length in [4usize, 16, 1 << 13, 1 << 16] {
            let x = noise(length);
            let transform = Transform::new(length);
            let back = transform.inverse(transform.forward(&x));
            let worst = x.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-13, "{length}: {worst}");
        }
    }
}
