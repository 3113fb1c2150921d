//! A training engine without libtorch: deterministic, and exact on the fixed-point grid.
//!
//! Contract: with [`crate::site`]'s job without privacy (SGD at rate 1, batches of [`BATCH`], coordinate bound
//! [`BOUND`]), a round's update is a whole multiple of 2⁻¹⁶ in every coordinate and far inside the bound. Stochastic
//! rounding never moves a whole number, so what a silo encodes is known from the update alone, and sums can be compared
//! as integers. Each silo's updates are its own random numbers: recognisable in any memory.

use blindsum_adapter::{Adapter, AdapterLayout, RoundKind};
use blindsum_engine::data::Example;
use blindsum_engine::{ClippedSum, Engine, EngineError, GradientSum, grid};
use blindsum_testkit::bert::Noise;

/// Grid points per unit.
pub const GRID: f64 = 65536.0;
/// The coordinate bound at which one grid point is one unit of a 16-bit value.
pub const BOUND: f64 = 32767.0 / GRID;
/// Expected examples per step; a power of two, so that dividing by it is exact.
pub const BATCH: u32 = 8;
/// Largest grid points of one step; two steps stay inside the bound.
const STEP: i32 = 8000;

/// The engine.
#[derive(Debug)]
pub struct GridEngine {
    layout: AdapterLayout,
    noise: Noise,
}

impl GridEngine {
    /// An engine whose gradients depend on `seed` and the number of steps taken, not on the rows.
    pub fn new(layout: &AdapterLayout, seed: u64) -> Self {
        Self { layout: layout.clone(), noise: Noise::new(seed) }
    }
}

impl Engine for GridEngine {
    fn layout(&self) -> &AdapterLayout {
        &self.layout
    }

    fn gradient_sum(
        &mut self,
        _adapter: Adapter<'_>,
        phase: RoundKind,
        batch: &[&Example],
    ) -> Result<GradientSum, EngineError> {
        // At most 8000 · 8 · 2⁻¹⁶: exact in f32.
        let mut point = || (f64::from(self.noise.between(-STEP, STEP)) * f64::from(BATCH) / GRID) as f32;
        let sum = self.layout.trained(phase).map(|_| point()).collect();
        Ok(GradientSum { sum, losses: vec![0.0; batch.len()] })
    }

    /// The same numbers, clipped as if they were one unit's.
    fn clipped_sum(
        &mut self,
        adapter: Adapter<'_>,
        phase: RoundKind,
        units: &[&[Example]],
        clip_norm: f64,
    ) -> Result<ClippedSum, EngineError> {
        let batch: Vec<&Example> = units.iter().copied().flatten().collect();
        let GradientSum { sum: gradient, losses } = self.gradient_sum(adapter, phase, &batch)?;
        let mut sum = vec![0; gradient.len()];
        let norm = grid::add_clipped(&mut sum, &[&gradient], clip_norm);
        Ok(ClippedSum { sum, losses, norms: vec![norm; units.len()] })
    }

    fn logits(&mut self, _adapter: Adapter<'_>, examples: &[&Example]) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(examples.iter().map(|_| vec![0.0, 1.0]).collect())
    }
}

/// An update as whole grid points.
///
/// # Panics
/// If a coordinate is none.
pub fn grid_points(update: &[f32]) -> Vec<i64> {
    let point = |&x: &f32| {
        let scaled = f64::from(x) * GRID;
        assert!(scaled.fract() == 0.0 && scaled.abs() <= 32767.0, "{x} is no point of the grid");
        scaled as i64
    };
    update.iter().map(point).collect()
}
