//! Differential privacy as mathematics: accountant, calibration, Poisson sampler, noise.
