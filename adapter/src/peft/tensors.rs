//! The adapter's numbers as a safetensors file under PEFT's names.
//!
//! PEFT wraps the model twice, hence `base_model.model.` before each path; a module saved whole keeps its own name
//! (`base_model.model.classifier.weight`), without the adapter's name that PEFT inserts in memory. Every layer of the
//! head is inside such a module. Folded parts stand beside the newest: A's one below the other, B's side by side, so
//! that the product of the two tensors is the sum of the parts' products.

use std::borrow::Cow;
use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::PeftError;
use crate::{Adapter, AdapterLayout, HeadRanges};

/// Allowance for the file's header, which names each tensor in about 150 bytes.
const HEADER_BYTES_PER_TENSOR: u64 = 512;

/// A file taken apart.
pub(super) struct Parts {
    pub a: Vec<Vec<f32>>,
    pub head: (Vec<f32>, Vec<f32>),
    pub values: Vec<f32>,
    pub folded: Vec<f32>,
}

fn name(path: &str) -> String {
    format!("base_model.model.{path}")
}

fn a_name(path: &str) -> String {
    name(&format!("{path}.lora_A.weight"))
}

fn b_name(path: &str) -> String {
    name(&format!("{path}.lora_B.weight"))
}

/// Every tensor of the file with its shape.
fn shapes(layout: &AdapterLayout, generations: usize) -> Vec<(String, Vec<usize>)> {
    let r = layout.rank() * generations;
    let mut shapes = Vec::new();
    for module in layout.modules() {
        shapes.push((a_name(&module.path), vec![r, module.in_features]));
        shapes.push((b_name(&module.path), vec![module.out_features, r]));
    }
    for layer in layout.head_layers() {
        shapes.push((name(&format!("{}.weight", layer.path)), vec![layer.out_features, layer.in_features]));
        if layer.bias {
            shapes.push((name(&format!("{}.bias", layer.path)), vec![layer.out_features]));
        }
    }
    shapes
}

/// More bytes than a file of this layout has.
pub(super) fn max_file_bytes(layout: &AdapterLayout, generations: usize) -> u64 {
    let bytes = |shape: &[usize]| 4 * shape.iter().product::<usize>() as u64;
    let tensors: u64 =
        shapes(layout, generations).iter().map(|(_, shape)| bytes(shape) + HEADER_BYTES_PER_TENSOR).sum();
    tensors + HEADER_BYTES_PER_TENSOR
}

/// Serialises the adapter; the same numbers give the same bytes.
pub(super) fn to_bytes(
    layout: &AdapterLayout,
    a: &[Vec<f32>],
    head: &(Vec<f32>, Vec<f32>),
    adapter: Adapter<'_>,
) -> Result<Vec<u8>, PeftError> {
    let inconsistent = |what: &str| PeftError::Inconsistent(format!("{what} does not have the layout's length"));
    let Some(generations) = adapter.generations(layout) else {
        return Err(inconsistent("the vector of trained values"));
    };
    if a.len() != layout.modules().len() {
        return Err(inconsistent("the list of A matrices"));
    }
    let (weights, biases) = layout.head_in_force(adapter.values, head);
    if weights.len() != layout.head_weights() || biases.len() != layout.head_biases() {
        return Err(inconsistent("the head"));
    }
    let mut parts: Vec<Cow<'_, [f32]>> = Vec::new();
    for (i, matrix) in a.iter().enumerate() {
        parts.push(layout.a_range(i).map_or(matrix.as_slice(), |range| &adapter.values[range]).into());
        parts.push(adapter.b_stack(layout, i).into());
    }
    for (layer, HeadRanges { weight, bias }) in layout.head_layers().iter().zip(layout.head_parts()) {
        parts.push(weights[weight].into());
        if layer.bias {
            parts.push(biases[bias].into());
        }
    }

    let mut tensors = Vec::new();
    for ((name, shape), part) in shapes(layout, generations).into_iter().zip(parts) {
        if part.len() != shape.iter().product::<usize>() {
            return Err(inconsistent(&name));
        }
        if part.iter().any(|x| !x.is_finite()) {
            return Err(PeftError::Inconsistent(format!("{name} holds a number that is not finite")));
        }
        tensors.push((name, shape, part.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()));
    }
    let broken = |e: safetensors::SafeTensorError| PeftError::Inconsistent(e.to_string());
    let mut views = Vec::new();
    for (name, shape, bytes) in &tensors {
        views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(broken)?));
    }
    // One key only: the crate writes metadata in the order of a hash map, which more than one would not survive.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(broken)
}

/// Takes the file apart; the error says what is wrong with it.
pub(super) fn from_bytes(bytes: &[u8], layout: &AdapterLayout, generations: usize) -> Result<Parts, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("not a safetensors file: {e}"))?;
    let expected = shapes(layout, generations);
    if let Some(unknown) = file.names().iter().find(|name| !expected.iter().any(|(known, _)| known == *name)) {
        let unknown: String = unknown.chars().take(200).collect();
        return Err(format!("tensor {unknown:?} does not belong to this adapter"));
    }
    let mut tensors = Vec::new();
    for (name, shape) in &expected {
        tensors.push(read(&file, name, shape)?);
    }
    let mut tensors = tensors.into_iter();
    // B of each generation, oldest first; the newest is in the values
    let mut b = vec![Vec::with_capacity(layout.b_len()); generations];
    let mut a = Vec::new();
    for (matrix, stack) in std::iter::from_fn(|| Some((tensors.next()?, tensors.next()?))).take(layout.modules().len())
    {
        a.push(matrix);
        for (column, run) in stack.chunks_exact(layout.rank()).enumerate() {
            b[column % generations].extend_from_slice(run);
        }
    }
    let mut values = b.pop().unwrap_or_default();
    // `shapes` ends with the head's tensors, layer by layer.
    let (mut weights, mut biases) = (Vec::with_capacity(layout.head_weights()), Vec::new());
    for layer in layout.head_layers() {
        weights.extend(tensors.next().into_iter().flatten());
        if layer.bias {
            biases.extend(tensors.next().into_iter().flatten());
        }
    }
    if layout.head_ranges().is_some() {
        values.extend(&weights);
        values.extend(&biases);
    }
    if layout.trains_a() {
        values.extend(a.iter().flatten());
    }
    Ok(Parts { a, head: (weights, biases), values, folded: b.concat() })
}

fn read(file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let tensor = file.tensor(name).map_err(|_| format!("tensor {name} is missing"))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        let (dtype, found) = (tensor.dtype(), tensor.shape());
        return Err(format!("tensor {name} is {dtype:?} {found:?}, expected F32 {shape:?}"));
    }
    let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    match values.iter().all(|x| x.is_finite()) {
        true => Ok(values),
        false => Err(format!("tensor {name} holds a number that is not finite")),
    }
}
