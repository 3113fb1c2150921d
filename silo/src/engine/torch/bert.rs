//! The BERT encoder with pooler and classifier, as Hugging Face's `BertForSequenceClassification` computes it with
//! dropout off (Devlin et al. 2019), on packed rows.
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests). The last layer goes on after attention with the
//! first token of each example alone, since nothing else reaches the pooler.

use blindsum_adapter::{AdapterLayout, BaseShape};
use tch::{Device, Kind, Tensor};

use super::checkpoint::{Checkpoint, Reader};
use super::lora::{Linear, Loras, Rows, cast};
use super::packing::Packed;
use super::{Result, torch_error};

/// Attention score of a token that must not be read; finite, so that no row of scores is ever empty of numbers, and
/// zero after softmax in either number format.
const FORBIDDEN: f64 = -1e30;

/// The frozen base model.
pub(super) struct Bert {
    shape: BaseShape,
    kind: Kind,
    words: Tensor,
    positions: Tensor,
    token_type: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    pooler: Linear,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
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

impl Layer {
    fn share(&self) -> Self {
        Layer {
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

/// Reads layers by their path and knows which are adapted.
struct Builder<'a, 'b> {
    reader: &'a mut Reader<'b>,
    layout: &'a AdapterLayout,
    kind: Kind,
}

impl Builder<'_, '_> {
    fn linear(&mut self, path: &str, inputs: usize, outputs: usize, kind: Kind) -> Result<Linear> {
        let weight = self.reader.tensor(&format!("{path}.weight"), &[outputs, inputs])?;
        let bias = self.reader.tensor(&format!("{path}.bias"), &[outputs])?;
        let full = format!("bert.{path}");
        let module = self.layout.modules().iter().position(|m| m.path == full);
        Linear::new(weight, bias, module, kind)
    }

    fn norm(&mut self, path: &str) -> Result<LayerNorm> {
        let (hidden, eps) = (self.layout.hidden(), self.layout.shape().layer_norm_eps);
        let weight = self.reader.tensor(&format!("{path}.weight"), &[hidden])?;
        let bias = self.reader.tensor(&format!("{path}.bias"), &[hidden])?;
        Ok(LayerNorm { weight, bias, eps })
    }

    fn layer(&mut self, i: usize) -> Result<Layer> {
        let (hidden, inner) = (self.layout.hidden(), self.layout.shape().intermediate);
        let path = format!("encoder.layer.{i}");
        Ok(Layer {
            query: self.linear(&format!("{path}.attention.self.query"), hidden, hidden, self.kind)?,
            key: self.linear(&format!("{path}.attention.self.key"), hidden, hidden, self.kind)?,
            value: self.linear(&format!("{path}.attention.self.value"), hidden, hidden, self.kind)?,
            attention_output: self.linear(&format!("{path}.attention.output.dense"), hidden, hidden, self.kind)?,
            attention_norm: self.norm(&format!("{path}.attention.output.LayerNorm"))?,
            intermediate: self.linear(&format!("{path}.intermediate.dense"), hidden, inner, self.kind)?,
            output: self.linear(&format!("{path}.output.dense"), inner, hidden, self.kind)?,
            output_norm: self.norm(&format!("{path}.output.LayerNorm"))?,
        })
    }
}

impl Bert {
    /// Reads every weight; the pooler stays f32.
    pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, kind: Kind) -> Result<Self> {
        let shape = layout.shape().clone();
        checkpoint.read(|reader| {
            let hidden = shape.hidden;
            let words = reader.tensor("embeddings.word_embeddings.weight", &[shape.vocab, hidden])?;
            let positions = reader.tensor("embeddings.position_embeddings.weight", &[shape.max_positions, hidden])?;
            let types = reader.tensor("embeddings.token_type_embeddings.weight", &[shape.token_types, hidden])?;
            let token_type = types.f_narrow_copy(0, 0, 1).map_err(torch_error)?;
            let mut builder = Builder { reader, layout, kind };
            let norm = builder.norm("embeddings.LayerNorm")?;
            let layers = (0..shape.layers).map(|i| builder.layer(i)).collect::<Result<Vec<_>>>()?;
            let pooler = builder.linear("pooler.dense", hidden, hidden, Kind::Float)?;
            Ok(Bert { kind, words, positions, token_type, norm, layers, pooler, shape: shape.clone() })
        })
    }

    /// The same model for another thread: handles to the same memory.
    pub(super) fn share(&self) -> Self {
        Bert {
            shape: self.shape.clone(),
            kind: self.kind,
            words: self.words.shallow_clone(),
            positions: self.positions.shallow_clone(),
            token_type: self.token_type.shallow_clone(),
            norm: self.norm.share(),
            layers: self.layers.iter().map(Layer::share).collect(),
            pooler: self.pooler.share(),
        }
    }

    /// Number format of each adapted layer, by module.
    pub(super) fn module_kinds(&self, modules: usize) -> Vec<Kind> {
        let mut kinds = vec![self.kind; modules];
        if let Some(i) = self.pooler.module() {
            kinds[i] = self.pooler.kind();
        }
        kinds
    }

    /// The pooler's output for each packed example, f32 `[examples, hidden]`.
    pub(super) fn forward(&self, packed: &Packed, loras: &mut Loras) -> Result<Tensor> {
        let mask = self.mask(packed)?;
        let starts: Vec<i64> = packed.starts.iter().map(|&s| s as i64).collect();
        let firsts = Tensor::f_from_slice(&starts).map_err(torch_error)?;
        let mut x = self.embed(packed)?;
        let last = self.layers.len() - 1;
        for (i, layer) in self.layers.iter().enumerate() {
            let mut context = self.attend(layer, &x, &mask, packed, loras)?;
            let mut rows = Rows::Tokens;
            if i == last {
                rows = Rows::Examples;
                context = context.f_index_select(0, &firsts).map_err(torch_error)?;
                x = x.f_index_select(0, &firsts).map_err(torch_error)?;
            }
            let attended = layer.attention_output.forward(&context, loras, rows)?;
            let x1 = layer.attention_norm.forward(&add(attended, &x)?)?;
            let inner = layer.intermediate.forward(&x1, loras, rows)?.f_gelu("none").map_err(torch_error)?;
            let outer = layer.output.forward(&inner, loras, rows)?;
            x = layer.output_norm.forward(&add(outer, &x1)?)?;
        }
        let x = cast(&x, Kind::Float)?;
        self.pooler.forward(&x, loras, Rows::Examples)?.f_tanh().map_err(torch_error)
    }

    /// Sum of word, position and first token-type embedding, normalised: `[tokens, hidden]`.
    fn embed(&self, packed: &Packed) -> Result<Tensor> {
        let ids = Tensor::f_from_slice(&packed.ids).map_err(torch_error)?;
        let positions = Tensor::f_from_slice(&packed.positions).map_err(torch_error)?;
        let positions = self.positions.f_index_select(0, &positions).map_err(torch_error)?;
        let words = self.words.f_index_select(0, &ids).map_err(torch_error)?;
        let sum = add(add(words, &self.token_type)?, &positions)?;
        cast(&self.norm.forward(&sum)?, self.kind)
    }

    /// What to add to the attention scores: 0 inside a sequence, [`FORBIDDEN`] across: `[rows·heads, width, width]`.
    fn mask(&self, packed: &Packed) -> Result<Tensor> {
        let (rows, width, heads) = (packed.rows as i64, packed.width as i64, self.shape.heads as i64);
        let segments = Tensor::f_from_slice(&packed.segments).and_then(|s| s.f_view([rows, 1, width]));
        let across = segments.and_then(|s| s.f_ne_tensor(&s.f_transpose(1, 2)?)).map_err(torch_error)?;
        let mask = Tensor::f_zeros([rows, width, width], (self.kind, Device::Cpu))
            .and_then(|mut m| m.f_masked_fill_(&across, FORBIDDEN))
            .and_then(|m| m.f_unsqueeze(1)?.f_expand([rows, heads, width, width], false))
            .and_then(|m| m.f_reshape([rows * heads, width, width]));
        mask.map_err(torch_error)
    }

    /// Self-attention of every sequence, before its output layer: `[tokens, hidden]`.
    ///
    /// Spelt out rather than by `scaled_dot_product_attention`: its backward pass in bf16 on a CPU takes five times as
    /// long as these products.
    fn attend(&self, layer: &Layer, x: &Tensor, mask: &Tensor, packed: &Packed, loras: &mut Loras) -> Result<Tensor> {
        let (rows, width, heads) = (packed.rows as i64, packed.width as i64, self.shape.heads as i64);
        let per_head = self.shape.head_width() as i64;
        let split = |t: Tensor| {
            t.f_view([rows, width, heads, per_head])
                .and_then(|t| t.f_transpose(1, 2)?.f_reshape([rows * heads, width, per_head]))
                .map_err(torch_error)
        };
        let query = split(layer.query.forward(x, loras, Rows::Tokens)?)?;
        let key = split(layer.key.forward(x, loras, Rows::Tokens)?)?;
        let value = split(layer.value.forward(x, loras, Rows::Tokens)?)?;
        let context = mask
            .f_baddbmm(&query, &key.f_transpose(1, 2).map_err(torch_error)?, 1.0, (per_head as f64).powf(-0.5))
            .and_then(|scores| scores.f_softmax(-1, None)?.f_bmm(&value))
            .and_then(|c| c.f_view([rows, heads, width, per_head])?.f_transpose(1, 2))
            .and_then(|c| c.f_reshape([rows * width, heads * per_head]));
        context.map_err(torch_error)
    }
}

/// `x + y` in `x`'s own memory; `x` is a fresh result that nothing else keeps.
fn add(mut x: Tensor, y: &Tensor) -> Result<Tensor> {
    x.f_add_(y).map_err(torch_error)
}
