//! The encoder that BERT and its descendants share: embeddings, and layers of self-attention and feed-forward, each with
//! its layer norm after the sum (Vaswani et al. 2017), on packed rows with dropout off.
//!
//! A family says where its tensors lie ([`LayerPaths`]), which row of the position embedding each token takes, and what
//! it makes of an example's first token. Contract: the last layer goes on with the first token of each example alone,
//! since nothing else reaches a classification head: of the other tokens it needs keys and values.

mod first;

use blindsum_adapter::{AdapterLayout, BaseShape};
use tch::{Device, Kind, Tensor};

use super::checkpoint::Reader;
use super::lora::{Linear, Loras, Rows, cast};
use super::packing::Packed;
use super::{Result, torch_error};

/// Attention score of a token that must not be read; finite, so that no row of scores is ever empty of numbers, and
/// zero after softmax in either number format.
const FORBIDDEN: f64 = -1e30;

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
    heads: usize,
    head_width: usize,
    kind: Kind,
    embeddings: Embeddings,
    layers: Vec<Layer>,
}

/// Tables of which each token takes a row, in f32.
struct Embeddings {
    words: Tensor,
    positions: Tensor,
    /// The row of token type 0 `[1, hidden]`, where the family has token types.
    token_type: Option<Tensor>,
    norm: LayerNorm,
}

struct Layer {
    attention: Attention,
    attention_norm: LayerNorm,
    feed_forward: FeedForward,
    output_norm: LayerNorm,
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

struct FeedForward {
    intermediate: Linear,
    output: Linear,
}

/// Layer norm with f32 weights; statistics are f32 whatever the input's format.
struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    fn share(&self) -> Self {
        LayerNorm { weight: self.weight.shallow_clone(), bias: self.bias.shallow_clone(), eps: self.eps }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let size = self.weight.size();
        x.f_layer_norm(&size, Some(&self.weight), Some(&self.bias), self.eps, false).map_err(torch_error)
    }
}

/// Reads layers by their path and knows which are adapted.
pub(super) struct Builder<'a, 'b> {
    reader: &'a mut Reader<'b>,
    layout: &'a AdapterLayout,
    kind: Kind,
}

impl<'a, 'b> Builder<'a, 'b> {
    /// `kind` is the number format of the encoder's matrix products.
    pub(super) fn new(reader: &'a mut Reader<'b>, layout: &'a AdapterLayout, kind: Kind) -> Self {
        Builder { reader, layout, kind }
    }

    fn shape(&self) -> &'a BaseShape {
        self.layout.shape()
    }

    /// The layer at `path` without the family's prefix, computing in `kind`.
    pub(super) fn linear(&mut self, path: &str, inputs: usize, outputs: usize, kind: Kind) -> Result<Linear> {
        let weight = self.reader.tensor(&format!("{path}.weight"), &[outputs, inputs])?;
        let bias = self.reader.tensor(&format!("{path}.bias"), &[outputs])?;
        let full = format!("{}.{path}", self.shape().family.model_type());
        let module = self.layout.modules().iter().position(|m| m.path == full);
        Linear::new(weight, bias, module, kind)
    }

    fn norm(&mut self, path: &str) -> Result<LayerNorm> {
        let (hidden, eps) = (self.shape().hidden, self.shape().layer_norm_eps);
        let weight = self.reader.tensor(&format!("{path}.weight"), &[hidden])?;
        let bias = self.reader.tensor(&format!("{path}.bias"), &[hidden])?;
        Ok(LayerNorm { weight, bias, eps })
    }

    fn embeddings(&mut self) -> Result<Embeddings> {
        let shape = self.shape();
        let mut table = |name: &str, rows| {
            self.reader.tensor(&format!("embeddings.{name}_embeddings.weight"), &[rows, shape.hidden])
        };
        let words = table("word", shape.vocab)?;
        let positions = table("position", shape.position_rows())?;
        let token_type = match shape.token_types {
            0 => None,
            rows => Some(table("token_type", rows)?.f_narrow_copy(0, 0, 1).map_err(torch_error)?),
        };
        Ok(Embeddings { words, positions, token_type, norm: self.norm("embeddings.LayerNorm")? })
    }

    fn layer(&mut self, paths: &LayerPaths, i: usize) -> Result<Layer> {
        let (hidden, inner, kind) = (self.shape().hidden, self.shape().intermediate, self.kind);
        let path = |part: &str| format!("{}.{i}.{part}", paths.layers);
        let attention = Attention {
            query: self.linear(&path(paths.query), hidden, hidden, kind)?,
            key: self.linear(&path(paths.key), hidden, hidden, kind)?,
            value: self.linear(&path(paths.value), hidden, hidden, kind)?,
            output: self.linear(&path(paths.attention_output), hidden, hidden, kind)?,
        };
        let attention_norm = self.norm(&path(paths.attention_norm))?;
        let feed_forward = FeedForward {
            intermediate: self.linear(&path(paths.intermediate), hidden, inner, kind)?,
            output: self.linear(&path(paths.output), inner, hidden, kind)?,
        };
        Ok(Layer { attention, attention_norm, feed_forward, output_norm: self.norm(&path(paths.output_norm))? })
    }

    /// Reads every weight of the encoder.
    pub(super) fn encoder(&mut self, paths: &LayerPaths) -> Result<Encoder> {
        let shape = self.shape();
        let embeddings = self.embeddings()?;
        let layers = (0..shape.layers).map(|i| self.layer(paths, i)).collect::<Result<Vec<_>>>()?;
        Ok(Encoder { heads: shape.heads, head_width: shape.head_width(), kind: self.kind, embeddings, layers })
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

    /// Sum of word, position and first token-type embedding, normalised: f32 `[tokens, hidden]`.
    fn forward(&self, packed: &Packed, positions: &[i64]) -> Result<Tensor> {
        let ids = Tensor::f_from_slice(&packed.ids).map_err(torch_error)?;
        let positions = Tensor::f_from_slice(positions).map_err(torch_error)?;
        let positions = self.positions.f_index_select(0, &positions).map_err(torch_error)?;
        let mut sum = self.words.f_index_select(0, &ids).map_err(torch_error)?;
        if let Some(token_type) = &self.token_type {
            sum = add(sum, token_type)?;
        }
        self.norm.forward(&add(sum, &positions)?)
    }
}

impl Layer {
    fn share(&self) -> Self {
        Layer {
            attention: self.attention.share(),
            attention_norm: self.attention_norm.share(),
            feed_forward: self.feed_forward.share(),
            output_norm: self.output_norm.share(),
        }
    }
}

impl FeedForward {
    fn share(&self) -> Self {
        FeedForward { intermediate: self.intermediate.share(), output: self.output.share() }
    }

    fn forward(&self, x: &Tensor, loras: &mut Loras, rows: Rows) -> Result<Tensor> {
        let inner = self.intermediate.forward(x, loras, rows)?.f_gelu("none").map_err(torch_error)?;
        self.output.forward(&inner, loras, rows)
    }
}

impl Attention {
    fn share(&self) -> Self {
        Attention {
            query: self.query.share(),
            key: self.key.share(),
            value: self.value.share(),
            output: self.output.share(),
        }
    }
}

impl Encoder {
    /// The same encoder for another thread: handles to the same memory.
    pub(super) fn share(&self) -> Self {
        Encoder {
            heads: self.heads,
            head_width: self.head_width,
            kind: self.kind,
            embeddings: self.embeddings.share(),
            layers: self.layers.iter().map(Layer::share).collect(),
        }
    }

    /// Number format of each adapted layer, by module, if all are the encoder's.
    pub(super) fn module_kinds(&self, modules: usize) -> Vec<Kind> {
        vec![self.kind; modules]
    }

    /// The last layer's output for the first token of each packed example, f32 `[examples, hidden]`; `positions` has a
    /// row of the position embedding for each packed token.
    pub(super) fn first_tokens(&self, packed: &Packed, positions: &[i64], loras: &mut Loras) -> Result<Tensor> {
        let mask = self.mask(packed)?;
        let starts: Vec<i64> = packed.starts.iter().map(|&s| s as i64).collect();
        let firsts = Tensor::f_from_slice(&starts).map_err(torch_error)?;
        let mut x = cast(&self.embeddings.forward(packed, positions)?, self.kind)?;
        let last = self.layers.len() - 1;
        for (i, layer) in self.layers.iter().enumerate() {
            let attention = &layer.attention;
            let key = self.split(&attention.key.forward(&x, loras, Rows::Tokens)?, packed)?;
            let value = self.split(&attention.value.forward(&x, loras, Rows::Tokens)?, packed)?;
            let rows = if i == last { Rows::Examples } else { Rows::Tokens };
            if i == last {
                x = x.f_index_select(0, &firsts).map_err(torch_error)?;
            }
            let query = attention.query.forward(&x, loras, rows)?;
            let context = match rows {
                Rows::Tokens => self.attend(&self.split(&query, packed)?, &key, &value, &mask, packed)?,
                Rows::Examples => first::attend(self.heads as i64, &query, &key, &value, packed)?,
            };
            let attended = layer.attention.output.forward(&context, loras, rows)?;
            let x1 = layer.attention_norm.forward(&add(attended, &x)?)?;
            let outer = layer.feed_forward.forward(&x1, loras, rows)?;
            x = layer.output_norm.forward(&add(outer, &x1)?)?;
        }
        cast(&x, Kind::Float)
    }

    /// What to add to the attention scores: 0 inside a sequence, [`FORBIDDEN`] across: `[rows·heads, width, width]`.
    fn mask(&self, packed: &Packed) -> Result<Tensor> {
        let (rows, width, heads) = (packed.rows as i64, packed.width as i64, self.heads as i64);
        let segments = Tensor::f_from_slice(&packed.segments).and_then(|s| s.f_view([rows, 1, width]));
        let across = segments.and_then(|s| s.f_ne_tensor(&s.f_transpose(1, 2)?)).map_err(torch_error)?;
        let mask = Tensor::f_zeros([rows, width, width], (self.kind, Device::Cpu))
            .and_then(|mut m| m.f_masked_fill_(&across, FORBIDDEN))
            .and_then(|m| m.f_unsqueeze(1)?.f_expand([rows, heads, width, width], false))
            .and_then(|m| m.f_reshape([rows * heads, width, width]));
        mask.map_err(torch_error)
    }

    /// `[tokens, hidden]` by head: `[rows·heads, width, head]`.
    fn split(&self, x: &Tensor, packed: &Packed) -> Result<Tensor> {
        let (rows, width, heads) = (packed.rows as i64, packed.width as i64, self.heads as i64);
        let per_head = self.head_width as i64;
        x.f_view([rows, width, heads, per_head])
            .and_then(|t| t.f_transpose(1, 2)?.f_reshape([rows * heads, width, per_head]))
            .map_err(torch_error)
    }

    /// Self-attention of every token, before its output layer: `[tokens, hidden]` from query, key and value by head.
    ///
    /// Spelt out rather than by `scaled_dot_product_attention`: its backward pass in bf16 on a CPU takes five times as
    /// long as these products.
    fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: &Tensor, packed: &Packed) -> Result<Tensor> {
        let (rows, width, heads) = (packed.rows as i64, packed.width as i64, self.heads as i64);
        let per_head = self.head_width as i64;
        let context = mask
            .f_baddbmm(query, &key.f_transpose(1, 2).map_err(torch_error)?, 1.0, (per_head as f64).powf(-0.5))
            .and_then(|scores| scores.f_softmax(-1, None)?.f_bmm(value))
            .and_then(|c| c.f_view([rows, heads, width, per_head])?.f_transpose(1, 2))
            .and_then(|c| c.f_reshape([rows * width, heads * per_head]));
        context.map_err(torch_error)
    }
}

/// `x + y` in `x`'s own memory; `x` is a fresh result that nothing else keeps.
fn add(mut x: Tensor, y: &Tensor) -> Result<Tensor> {
    x.f_add_(y).map_err(torch_error)
}
