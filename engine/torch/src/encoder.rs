//! The encoder that BERT and its descendants share: embeddings, and layers of self-attention and feed-forward, each with
//! its layer norm after the sum (Vaswani et al. 2017), on packed rows with dropout off.
//!
//! A family's file says where its tensors lie ([`LayerPaths`]) and what is its own: which row of the position embedding
//! each token takes, a pooler, the activation inside the head. Contract: the last layer goes on with the first token of each example alone,
//! since nothing else reaches a classification head: of the other tokens it needs keys and values.

use std::borrow::Cow;

use tch::{Kind, Tensor};

use super::attention::{Heads, Kept, Mask, Reads, attend};
use super::builder::{Builder, Place};
use super::head::HeadActivation;
use super::lora::{Linear, Loras, RowsAre, cast};
use super::model::{Model, Pass};
use super::norm::Norm;
use super::packing::Packed;
use super::{Result, add, indices, torch_error};

/// Where the tensors of one layer lie, below the layer's own path.
pub(super) struct LayerPaths {
    /// The path of layer `i` is `<layers>.<i>`.
    pub layers: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub attention_output: &'static str,
    pub attention_norm: &'static str,
    pub intermediate: &'static str,
    pub output: &'static str,
    pub output_norm: &'static str,
}

/// Frozen embeddings and layers.
pub(super) struct Encoder {
    heads: Heads,
    place: Place,
    embeddings: Embeddings,
    layers: Vec<EncoderLayer>,
    own: Own,
}

/// What a family has beside the layers.
pub(super) struct Own {
    pub positions: Positions,
    /// In f32, on the first token.
    pub pooler: Option<Linear>,
    pub head_activation: HeadActivation,
}

/// Which row of the position embedding a token takes.
#[derive(Clone, Copy)]
pub(super) enum Positions {
    /// That of its place in its sequence.
    Places,
    /// As `create_position_ids_from_input_ids` makes them: tokens count up from row `first`; a padding token, should a text
    /// contain one, is passed over and takes the row before that.
    From { first: i64, pad_token: i64 },
}

impl Positions {
    fn of(self, packed: &Packed) -> Cow<'_, [i64]> {
        let Positions::From { first, pad_token } = self else { return Cow::Borrowed(&packed.positions) };
        let mut positions = vec![0; packed.ids.len()];
        for (&start, &length) in packed.starts.iter().zip(&packed.lengths) {
            let mut next = first;
            let tokens = start..start + length;
            for (position, &id) in positions[tokens.clone()].iter_mut().zip(&packed.ids[tokens]) {
                if id == pad_token {
                    *position = first - 1;
                } else {
                    *position = next;
                    next += 1;
                }
            }
        }
        Cow::Owned(positions)
    }
}

/// Tables of which each token takes a row.
struct Embeddings {
    words: Tensor,
    positions: Tensor,
    /// The row of token type 0 `[1, hidden]`, where the family has token types.
    token_type: Option<Tensor>,
    norm: Norm,
}

struct EncoderLayer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

impl Builder<'_, '_> {
    fn embeddings(&mut self) -> Result<Embeddings> {
        let shape = self.shape();
        let words = self.table("embeddings.word_embeddings", shape.vocab)?;
        let positions = self.table("embeddings.position_embeddings", shape.position_rows())?;
        let token_type = match shape.token_types {
            0 => None,
            rows => {
                let table = self.table("embeddings.token_type_embeddings", rows)?;
                Some(table.f_narrow_copy(0, 0, 1).map_err(torch_error)?)
            }
        };
        Ok(Embeddings { words, positions, token_type, norm: self.layer_norm("embeddings.LayerNorm")? })
    }

    fn encoder_layer(&mut self, paths: &LayerPaths, i: usize) -> Result<EncoderLayer> {
        let (hidden, inner) = (self.shape().hidden, self.shape().intermediate);
        let path = |part: &str| format!("{}.{i}.{part}", paths.layers);
        Ok(EncoderLayer {
            query: self.linear(&path(paths.query), hidden, hidden, true)?,
            key: self.linear(&path(paths.key), hidden, hidden, true)?,
            value: self.linear(&path(paths.value), hidden, hidden, true)?,
            attention_output: self.linear(&path(paths.attention_output), hidden, hidden, true)?,
            attention_norm: self.layer_norm(&path(paths.attention_norm))?,
            intermediate: self.linear(&path(paths.intermediate), hidden, inner, true)?,
            output: self.linear(&path(paths.output), inner, hidden, true)?,
            output_norm: self.layer_norm(&path(paths.output_norm))?,
        })
    }

    /// Reads every weight of the encoder.
    pub(super) fn encoder(&mut self, paths: &LayerPaths, own: Own) -> Result<Encoder> {
        let shape = self.shape();
        let embeddings = self.embeddings()?;
        let layers = (0..shape.layers).map(|i| self.encoder_layer(paths, i)).collect::<Result<Vec<_>>>()?;
        Ok(Encoder { heads: Heads::of(shape), place: self.place(), embeddings, layers, own })
    }
}

impl Embeddings {
    fn share(&self) -> Self {
        Embeddings {
            words: self.words.shallow_clone(),
            positions: self.positions.shallow_clone(),
            token_type: self.token_type.as_ref().map(Tensor::shallow_clone),
            norm: self.norm.share(),
        }
    }
}

impl EncoderLayer {
    fn share(&self) -> Self {
        EncoderLayer {
            query: self.query.share(),
            key: self.key.share(),
            value: self.value.share(),
            attention_output: self.attention_output.share(),
            attention_norm: self.attention_norm.share(),
            intermediate: self.intermediate.share(),
            output: self.output.share(),
            output_norm: self.output_norm.share(),
        }
    }
}

impl Model for Encoder {
    fn share(&self) -> Box<dyn Model> {
        let Own { positions, pooler, head_activation } = &self.own;
        let pooler = pooler.as_ref().map(Linear::share);
        Box::new(Encoder {
            heads: self.heads,
            place: self.place,
            embeddings: self.embeddings.share(),
            layers: self.layers.iter().map(EncoderLayer::share).collect(),
            own: Own { positions: *positions, pooler, head_activation: *head_activation },
        })
    }

    fn place(&self) -> Place {
        self.place
    }

    fn module_kinds(&self, modules: usize) -> Vec<Kind> {
        let mut kinds = vec![self.place.kind; modules];
        if let Some((i, pooler)) = self.own.pooler.as_ref().and_then(|pooler| Some((pooler.module()?, pooler))) {
            kinds[i] = pooler.kind();
        }
        kinds
    }

    /// Masks, and the first token of each example as what the last layer goes on with.
    fn begin<'a>(&self, packed: &'a Packed) -> Result<Pass<'a>> {
        let mask = Mask::new(packed, self.heads, Reads::All, self.place)?;
        let firsts: Vec<i64> = packed.starts.iter().map(|&s| s as i64).collect();
        let kept = Some(Kept::new(packed, &firsts, self.heads, Reads::All, self.place)?);
        Ok(Pass { packed, mask, window_mask: None, turn: None, kept })
    }

    /// Sum of word, position and first token-type embedding, normalised.
    fn embed(&self, pass: &Pass) -> Result<Tensor> {
        let (table, device) = (&self.embeddings, self.place.device);
        let rows = |table: &Tensor, at: &[i64]| {
            let rows = table.f_index_select(0, &indices(at, device)?).map_err(torch_error)?;
            cast(&rows, Kind::Float)
        };
        let mut sum = rows(&table.words, &pass.packed.ids)?;
        if let Some(token_type) = &table.token_type {
            sum = add(sum, token_type)?;
        }
        let positions = rows(&table.positions, &self.own.positions.of(pass.packed))?;
        cast(&table.norm.forward(&add(sum, &positions)?)?, self.place.kind)
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The last gives `[examples, hidden]`.
    fn layer(&self, i: usize, x: &Tensor, pass: &Pass, loras: &mut Loras) -> Result<Tensor> {
        let layer = &self.layers[i];
        let key = layer.key.forward(x, loras, RowsAre::Tokens)?;
        let value = layer.value.forward(x, loras, RowsAre::Tokens)?;
        let (rows, x, context) = match pass.kept.as_ref().filter(|_| i + 1 == self.layers.len()) {
            None => {
                let query = layer.query.forward(x, loras, RowsAre::Tokens)?;
                (RowsAre::Tokens, x.shallow_clone(), attend(self.heads, &query, &key, &value, &pass.mask)?)
            }
            Some(kept) => {
                let x = kept.select(x)?;
                let query = layer.query.forward(&x, loras, RowsAre::Examples)?;
                (RowsAre::Examples, x, kept.attend(&query, &key, &value)?)
            }
        };
        let attended = layer.attention_output.forward(&context, loras, rows)?;
        let x1 = layer.attention_norm.forward(&add(attended, &x)?)?;
        let inner = layer.intermediate.forward(&x1, loras, rows)?.f_gelu("none").map_err(torch_error)?;
        layer.output_norm.forward(&add(layer.output.forward(&inner, loras, rows)?, &x1)?)
    }

    /// The encoder's output for the first token, through the pooler where there is one.
    fn finish(&self, x: &Tensor, loras: &mut Loras) -> Result<Tensor> {
        let x = cast(x, Kind::Float)?;
        match &self.own.pooler {
            None => Ok(x),
            Some(pooler) => pooler.forward(&x, loras, RowsAre::Examples)?.f_tanh().map_err(torch_error),
        }
    }

    fn head_activation(&self) -> HeadActivation {
        self.own.head_activation
    }
}
