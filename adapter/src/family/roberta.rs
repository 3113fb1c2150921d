//! RoBERTa (Liu et al. 2019), as Hugging Face's `RobertaConfig` and `RobertaForSequenceClassification` name its parts:
//! BERT's layers without the pooler, positions that count from `pad_token_id + 1`, and a head of two layers.

use serde_json::{Map, Value};

use super::bert::{self, BertConfig};
use super::{parse, stacked};
use crate::shape::Dimensions;
use crate::{BaseShape, Family, Module, ShapeError};

pub(super) fn read(config: Map<String, Value>) -> Result<Dimensions, ShapeError> {
    let mut dimensions = parse::<BertConfig>(config)?.dimensions(Family::Roberta, 1)?;
    let Some(pad_token) = dimensions.pad_token else {
        let (value, supported) = ("a negative number".to_owned(), "an id: positions count from it");
        return Err(ShapeError::Unsupported { key: "pad_token_id", value, supported });
    };
    dimensions.first_position = pad_token as usize + 1;
    Ok(dimensions)
}

pub(super) fn linear_layers(shape: &BaseShape) -> Vec<Module> {
    stacked("roberta.encoder.layer", shape.layers, bert::LAYER, shape.hidden, shape.intermediate)
}
