//! The decoder that Llama, Mistral, Qwen2 and GPT-2 share: layers of causal self-attention and feed-forward, each with its
//! norm before (pre-norm), on packed rows with dropout off.
//!
//! A family's file reads its tensors into these parts; what differs beyond names is in the parts themselves: one layer for
//! query, key and value or three, rotary positions or a table of them, a gated feed-forward layer or a plain one.
//! Contract: for classification the last layer goes on with each example's last real token alone.

use blindsum_adapter::{Activation, DecoderShape as Settings, Task, Window};
use blindsum_engine::EngineError;
use tch::{Kind, Tensor};

use super::attention::{Heads, Kept, Mask, Reads, Turn, attend};
use super::builder::{Builder, Place};
use super::lora::{Linear, Loras, RowsAre, cast};
use super::model::{Model, Pass};
use super::norm::Norm;
use super::packing::Packed;
use super::{Result, add, indices, torch_error};

/// Frozen embeddings, layers, and the matrix that gives next tokens.
pub(super) struct Decoder {
    heads: Heads,
    place: Place,
    task: Task,
    /// Id of the padding token, which classification passes over at the end of a text.
    pad_token: Option<u32>,
    window: Option<Window>,
    /// Word embedding `[vocab, hidden]`.
    words: Tensor,
    positions: PositionSource,
    layers: Vec<DecoderLayer>,
    norm: Norm,
    /// Output matrix `[vocab, hidden]`; the word embedding itself where they are tied. None for classification.
    output: Option<Tensor>,
}

/// How a token's place enters.
enum PositionSource {
    /// Query and key are turned; radians per position `[head width / 2]`.
    Rotary(Tensor),
    /// A row of this table is added to the embedding.
    Table(Tensor),
}

pub(super) struct DecoderLayer {
    pub attention_norm: Norm,
    pub attention: Qkv,
    pub attention_output: Linear,
    pub feed_forward_norm: Norm,
    pub feed_forward: FeedForward,
}

pub(super) enum Qkv {
    Apart {
        query: Linear,
        key: Linear,
        value: Linear,
    },
    /// Query, key and value one after the other in its columns.
    Together(Linear),
}

pub(super) enum FeedForward {
    /// `down(silu(gate(x)) · up(x))` (Shazeer 2020).
    Gated {
        gate: Linear,
        up: Linear,
        down: Linear,
    },
    Plain {
        up: Linear,
        activation: Activation,
        down: Linear,
    },
}

impl Qkv {
    fn share(&self) -> Self {
        match self {
            Qkv::Apart { query, key, value } => {
                Qkv::Apart { query: query.share(), key: key.share(), value: value.share() }
            }
            Qkv::Together(linear) => Qkv::Together(linear.share()),
        }
    }

    /// Key and value of every token, and query of every one or of the kept ones.
    fn forward(&self, x: &Tensor, kept: Option<&Kept>, loras: &mut Loras) -> Result<[Tensor; 3]> {
        match self {
            Qkv::Apart { query, key, value } => {
                let query = match kept {
                    None => query.forward(x, loras, RowsAre::Tokens)?,
                    Some(kept) => query.forward(&kept.select(x)?, loras, RowsAre::Examples)?,
                };
                Ok([query, key.forward(x, loras, RowsAre::Tokens)?, value.forward(x, loras, RowsAre::Tokens)?])
            }
            Qkv::Together(linear) => {
                let all = linear.forward(x, loras, RowsAre::Tokens)?;
                let width = all.size()[1] / 3;
                let part = |i: i64| all.f_narrow(1, i * width, width).map_err(torch_error);
                let query = kept.map_or_else(|| part(0), |kept| kept.select(&part(0)?))?;
                Ok([query, part(1)?, part(2)?])
            }
        }
    }
}

impl FeedForward {
    fn share(&self) -> Self {
        match self {
            FeedForward::Gated { gate, up, down } => {
                FeedForward::Gated { gate: gate.share(), up: up.share(), down: down.share() }
            }
            FeedForward::Plain { up, activation, down } => {
                FeedForward::Plain { up: up.share(), activation: *activation, down: down.share() }
            }
        }
    }

    fn forward(&self, x: &Tensor, loras: &mut Loras, rows: RowsAre) -> Result<Tensor> {
        match self {
            FeedForward::Gated { gate, up, down } => {
                let gate = gate.forward(x, loras, rows)?.f_silu().map_err(torch_error)?;
                let inner = gate.f_mul(&up.forward(x, loras, rows)?).map_err(torch_error)?;
                down.forward(&inner, loras, rows)
            }
            FeedForward::Plain { up, activation, down } => {
                let inner = up.forward(x, loras, rows)?;
                let inner = match activation {
                    Activation::Silu => inner.f_silu(),
                    Activation::Gelu => inner.f_gelu("none"),
                    Activation::GeluTanh => inner.f_gelu("tanh"),
                };
                down.forward(&inner.map_err(torch_error)?, loras, rows)
            }
        }
    }
}

impl DecoderLayer {
    fn share(&self) -> Self {
        DecoderLayer {
            attention_norm: self.attention_norm.share(),
            attention: self.attention.share(),
            attention_output: self.attention_output.share(),
            feed_forward_norm: self.feed_forward_norm.share(),
            feed_forward: self.feed_forward.share(),
        }
    }
}

impl PositionSource {
    fn share(&self) -> Self {
        match self {
            PositionSource::Rotary(frequencies) => PositionSource::Rotary(frequencies.shallow_clone()),
            PositionSource::Table(table) => PositionSource::Table(table.shallow_clone()),
        }
    }
}

impl<'a> Builder<'a, '_> {
    /// Reads every weight of a decoder: its word embedding at `words`, its table of positions, if it has one, at
    /// `positions`, then each layer and the last norm as the family has them.
    pub(super) fn decoder(
        &mut self,
        words: &str,
        positions: &str,
        layer: impl Fn(&mut Self, usize) -> Result<DecoderLayer>,
        norm: impl FnOnce(&mut Self) -> Result<Norm>,
    ) -> Result<Decoder> {
        let (shape, settings, task) = (self.shape(), self.settings()?, self.layout().task());
        let (words, output) = match task {
            Task::SequenceClassification { .. } => (self.table(words, shape.vocab)?, None),
            Task::CausalLm => self.words_and_output(words, settings.tied_embeddings)?,
        };
        let positions = match &settings.rotary {
            Some(rotary) => {
                let frequencies = rotary.frequencies(shape.head_width());
                PositionSource::Rotary(Tensor::f_from_slice(&frequencies).map_err(torch_error)?)
            }
            None => PositionSource::Table(self.table(positions, shape.position_rows())?),
        };
        Ok(Decoder {
            heads: Heads::of(shape),
            place: self.place(),
            task,
            pad_token: shape.pad_token,
            window: settings.window.clone(),
            words,
            positions,
            layers: (0..shape.layers).map(|i| layer(self, i)).collect::<Result<_>>()?,
            norm: norm(self)?,
            output,
        })
    }

    /// The word embedding at `words`, and the matrix that gives next tokens: `lm_head`, or where they are tied whichever
    /// of the two the file holds. Of tied ones that the file holds both, and that differ, each is taken for what it is,
    /// as Hugging Face does.
    fn words_and_output(&mut self, words: &str, tied: bool) -> Result<(Tensor, Option<Tensor>)> {
        let vocab = self.shape().vocab;
        if tied && !self.has_outer_table("lm_head") {
            let words = self.table(words, vocab)?;
            return Ok((words.shallow_clone(), Some(words)));
        }
        let output = self.outer_table("lm_head", vocab)?;
        if tied && !self.has_table(words) {
            return Ok((output.shallow_clone(), Some(output)));
        }
        let words = self.table(words, vocab)?;
        let same = words.f_equal(&output).map_err(torch_error)?;
        Ok((words.shallow_clone(), Some(if same { words } else { output })))
    }

    /// What only a decoder's shape has.
    pub(super) fn settings(&self) -> Result<&'a Settings> {
        let missing = || EngineError::Argument("the base model's shape has no decoder settings".to_owned());
        self.shape().decoder.as_ref().ok_or_else(missing)
    }
}

impl Model for Decoder {
    fn share(&self) -> Box<dyn Model> {
        Box::new(Decoder {
            heads: self.heads,
            place: self.place,
            task: self.task,
            pad_token: self.pad_token,
            window: self.window.clone(),
            words: self.words.shallow_clone(),
            positions: self.positions.share(),
            layers: self.layers.iter().map(DecoderLayer::share).collect(),
            norm: self.norm.share(),
            output: self.output.as_ref().map(Tensor::shallow_clone),
        })
    }

    fn place(&self) -> Place {
        self.place
    }

    fn begin<'a>(&self, packed: &'a Packed) -> Result<Pass<'a>> {
        let mask = Mask::new(packed, self.heads, Reads::Before, self.place)?;
        let longest = packed.lengths.iter().copied().max().unwrap_or(0);
        // a window that no sequence outgrows changes nothing
        let window_mask = match self.window.as_ref().filter(|window| longest > window.tokens) {
            None => None,
            Some(window) => Some(Mask::new(packed, self.heads, Reads::Window(window.tokens as i64), self.place)?),
        };
        let turn = match &self.positions {
            PositionSource::Rotary(frequencies) => Some(Turn::new(&packed.positions, frequencies, self.place)?),
            PositionSource::Table(_) => None,
        };
        let kept = match self.task {
            Task::CausalLm => None,
            Task::SequenceClassification { .. } => {
                let last = self.layers.len().saturating_sub(1);
                let reads = match self.window.as_ref().filter(|window| window.slides(last)) {
                    Some(window) => Reads::Window(window.tokens as i64),
                    None => Reads::Before,
                };
                Some(Kept::new(packed, &self.last_tokens(packed), self.heads, reads, self.place)?)
            }
        };
        Ok(Pass { packed, mask, window_mask, turn, kept })
    }

    fn embed(&self, pass: &Pass) -> Result<Tensor> {
        let rows =
            |table: &Tensor, at: &[i64]| table.f_index_select(0, &indices(at, self.place.device)?).map_err(torch_error);
        let words = rows(&self.words, &pass.packed.ids)?;
        match &self.positions {
            PositionSource::Rotary(_) => Ok(words),
            PositionSource::Table(table) => add(words, &rows(table, &pass.packed.positions)?),
        }
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    /// For classification the last gives `[examples, hidden]`.
    fn layer(&self, i: usize, x: &Tensor, pass: &Pass, loras: &mut Loras) -> Result<Tensor> {
        let layer = &self.layers[i];
        let kept = pass.kept.as_ref().filter(|_| i + 1 == self.layers.len());
        let [mut query, mut key, value] = layer.attention.forward(&layer.attention_norm.forward(x)?, kept, loras)?;
        if let Some(turn) = &pass.turn {
            key = turn.apply(&key, self.heads.width)?;
            query = match kept {
                None => turn.apply(&query, self.heads.width)?,
                Some(kept) => turn.select(kept)?.apply(&query, self.heads.width)?,
            };
        }
        let (rows, x, context) = match kept {
            None => {
                let slides = self.window.as_ref().is_some_and(|window| window.slides(i));
                let mask = pass.window_mask.as_ref().filter(|_| slides).unwrap_or(&pass.mask);
                (RowsAre::Tokens, x.shallow_clone(), attend(self.heads, &query, &key, &value, mask)?)
            }
            Some(kept) => (RowsAre::Examples, kept.select(x)?, kept.attend(&query, &key, &value)?),
        };
        let x = add(layer.attention_output.forward(&context, loras, rows)?, &x)?;
        let outer = layer.feed_forward.forward(&layer.feed_forward_norm.forward(&x)?, loras, rows)?;
        add(outer, &x)
    }

    /// The last norm; f32 for a classification head.
    fn finish(&self, x: &Tensor, _: &mut Loras) -> Result<Tensor> {
        let x = self.norm.forward(x)?;
        match self.task {
            Task::CausalLm => Ok(x),
            Task::SequenceClassification { .. } => cast(&x, Kind::Float),
        }
    }

    fn output(&self) -> Option<&Tensor> {
        self.output.as_ref()
    }
}

impl Decoder {
    /// The last token of each example that is no padding, or its first where all are: what Hugging Face's
    /// `…ForSequenceClassification` reads. Our rows are not padded, but a text may end in that token.
    fn last_tokens(&self, packed: &Packed) -> Vec<i64> {
        let last = |(&start, &length): (&usize, &usize)| {
            let pads = |&t: &usize| self.pad_token.is_some_and(|pad| packed.ids[start + t] == i64::from(pad));
            (start + (0..length).rev().find(|t| !pads(t)).unwrap_or(0)) as i64
        };
        packed.starts.iter().zip(&packed.lengths).map(last).collect()
    }
}
