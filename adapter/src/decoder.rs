//! What a decoder's `config.json` says beyond an encoder's dimensions: grouped heads, rotary positions, windows, biases.
//!
//! Contract: everything here decides what the model computes; a setting that the engine does not compute is refused when
//! the file is read ([`crate::Family`]'s files), so that a [`DecoderShape`] is always one that can be trained.

use crate::ShapeError;
use crate::shape::ConfigKeys;

/// The parts that differ between Llama, Mistral, Qwen2 and GPT-2.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderShape {
    /// Heads of keys and values; divides the heads of queries (grouped-query attention, Ainslie et al. 2023).
    pub kv_heads: usize,
    /// Width of one head (`head_dim`, or `hidden / heads`).
    pub head_width: usize,
    /// Rotary position embedding; `None` where the model has a table of learned positions.
    pub rotary: Option<Rotary>,
    /// Sliding-window attention; `None` where each token reads all before it.
    pub window: Option<Window>,
    /// Which linear layers have a bias.
    pub biases: Biases,
    /// The activation inside the feed-forward layer.
    pub activation: Activation,
    /// Whether the word embedding is also the matrix of the output (`tie_word_embeddings`).
    pub tied_embeddings: bool,
    /// Ids of the tokens that end a text (`eos_token_id`, one or several), each in the vocabulary; the first is put where
    /// none stands.
    pub end_tokens: Vec<u32>,
}

/// Rotary position embedding (Su et al. 2021).
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Base of the frequencies (`rope_theta`).
    pub theta: f64,
    /// How the frequencies are stretched for texts longer than the model was first trained on.
    pub scaling: RotaryScaling,
}

/// `rope_scaling` of `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RotaryScaling {
    /// Not at all.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, those between interpolated (Llama 3.1, `rope_type`
    /// `"llama3"`).
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Wavelengths above `original_positions / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_positions / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// `original_max_position_embeddings`.
        original_positions: f64,
    },
}

impl Rotary {
    /// Radians by which each pair of coordinates turns from one position to the next: `head_width / 2` numbers, in f32
    /// as Hugging Face's `ROPE_INIT_FUNCTIONS` compute them.
    pub fn frequencies(&self, head_width: usize) -> Vec<f32> {
        let plain = |i: usize| 1.0 / (self.theta as f32).powf((2 * i) as f32 / head_width as f32);
        (0..head_width / 2).map(|i| self.scaling.apply(plain(i))).collect()
    }
}

impl RotaryScaling {
    fn apply(self, frequency: f32) -> f32 {
        match self {
            RotaryScaling::None => frequency,
            RotaryScaling::Linear { factor } => frequency / factor as f32,
            RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
                let (frequency, wavelength) = (f64::from(frequency), 2.0 * std::f64::consts::PI / f64::from(frequency));
                let scaled = if wavelength > original_positions / low_freq_factor {
                    frequency / factor
                } else if wavelength < original_positions / high_freq_factor {
                    frequency
                } else {
                    let smooth =
                        (original_positions / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                };
                scaled as f32
            }
        }
    }
}

/// Sliding-window attention (Beltagy et al. 2020; Mistral 7B, Jiang et al. 2023).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// A token reads itself and the `tokens − 1` before it.
    pub tokens: usize,
    /// Whether each layer has the window; at least one has. The others read everything.
    pub layers: Vec<bool>,
}

impl Window {
    /// Whether layer `i` has the window.
    pub fn slides(&self, i: usize) -> bool {
        self.layers.get(i).copied().unwrap_or(false)
    }
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Biases {
    /// Query, key and value.
    pub qkv: bool,
    /// The layer after attention.
    pub output: bool,
    /// The feed-forward layers.
    pub feed_forward: bool,
}

/// The activation inside a decoder's feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · σ(x)`, on the gate of a gated layer.
    Silu,
    /// GELU by the error function.
    Gelu,
    /// GELU by the hyperbolic tangent (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
}

impl DecoderShape {
    /// Checks what is not checked with the other dimensions.
    pub(crate) fn check(&self, hidden: usize, heads: usize, vocab: usize, keys: &ConfigKeys) -> Result<(), ShapeError> {
        let wrong = |key, value, why| Err(ShapeError::Dimension { key, value, why });
        if self.head_width == 0 || self.head_width > 4096 {
            return wrong("head_dim", self.head_width, "it must lie between 1 and 4096");
        }
        if self.head_width * heads != hidden && self.rotary.is_none() {
            return wrong(keys.heads, heads, keys.heads_must_divide);
        }
        if self.rotary.is_some() && !self.head_width.is_multiple_of(2) {
            return wrong("head_dim", self.head_width, "rotary positions need an even number");
        }
        if self.kv_heads == 0 || !heads.is_multiple_of(self.kv_heads) {
            return wrong("num_key_value_heads", self.kv_heads, "it must divide num_attention_heads");
        }
        if let Some(&id) = self.end_tokens.iter().find(|&&id| id as usize >= vocab) {
            return wrong(
                "eos_token_id",
                id as usize,
                "it must be below vocab_size: name the token that ends a text, or null",
            );
        }
        match &self.window {
            Some(Window { tokens: 0, .. }) => wrong("sliding_window", 0, "a token must read itself at least"),
            _ => Ok(()),
        }
    }
}
