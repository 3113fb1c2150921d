//! What becomes of each key of `config.json`: one table per family, of every key that Transformers reads for it.
//!
//! ```text
//! Computed   the family's file reads it: the model follows what it says, or is refused there
//! Harmless   no number of a forward pass follows from it, whatever it says
//! Only       Transformers computes another model unless it has one of these values, so others are refused here
//! ```
//!
//! Contract: the tables hold every key that the configuration classes, models and loader of Transformers 5.24 read
//! (`tests/config_keys_hf.py` lists them and computes the losses that prove each entry). A key in no table is one that
//! Transformers keeps and never reads; it is passed over here too.

use serde_json::{Map, Value};

use self::Fate::{Computed, Harmless, Only};
use crate::{Family, ShapeError};

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Computed,
    Harmless,
    /// The values that change nothing, as JSON, and what a message says of them.
    Only(&'static [&'static str], &'static str),
}

type KeyFates = &'static [(&'static str, Fate)];

const FALSE: Fate = Only(&["false", "null"], "false");
const NOTHING: Fate = Only(&["null", "{}"], "the key left out");

/// Keys of every family.
const COMMON: KeyFates = &[
    ("model_type", Computed),
    ("vocab_size", Computed),
    ("initializer_range", Computed),
    ("pad_token_id", Computed),
    // the head and its loss are the job's: one label for each text
    ("num_labels", Harmless),
    ("id2label", Harmless),
    ("label2id", Harmless),
    (
        "problem_type",
        Only(&["null", "\"single_label_classification\""], "\"single_label_classification\", or the key left out"),
    ),
    // other models, or other files, than this file and its weights describe
    ("per_layer_config", NOTHING),
    ("pruned_heads", NOTHING),
    ("fusion_config", NOTHING),
    ("text_config", NOTHING),
    ("text_encoder", NOTHING),
    ("decoder", NOTHING),
    ("generator", NOTHING),
    ("quantization_config", Only(&["null"], "weights that are not quantised, as f32, f16 or bf16: fetch those")),
    ("transformers_weights", Only(&["null"], "the key left out, and the weights under their usual names")),
    ("configuration_files", Only(&["null"], "the key left out, and the settings in config.json itself")),
    // the number format of the base weights is the silo's (`precision`); dropout is off
    ("dtype", Harmless),
    ("torch_dtype", Harmless),
    ("use_bfloat16", Harmless),
    // the same numbers in another way
    ("chunk_size_feed_forward", Harmless),
    ("gradient_checkpointing", Harmless),
    ("attn_implementation", Harmless),
    ("experts_implementation", Harmless),
    ("compile_config", Harmless),
    ("distributed_config", Harmless),
    ("use_cache", Harmless),
    ("torchscript", Harmless),
    // what a call gives back beside the logits
    ("return_dict", Harmless),
    ("use_return_dict", Harmless),
    ("output_hidden_states", Harmless),
    ("output_attentions", Harmless),
    // where it comes from and what for; code beside the model is not run
    ("architectures", Harmless),
    ("auto_map", Harmless),
    ("transformers_version", Harmless),
    ("name_or_path", Harmless),
    ("_name_or_path", Harmless),
    ("finetuning_task", Harmless),
    ("task_specific_params", Harmless),
    ("tokenizer_class", Harmless),
    ("prefix", Harmless),
    ("bos_token_id", Harmless),
    ("sep_token_id", Harmless),
    ("decoder_start_token_id", Harmless),
    ("max_length", Harmless),
    ("temperature", Harmless),
    // read by no model of these families
    ("is_encoder_decoder", Harmless),
    ("tie_encoder_decoder", Harmless),
    ("cross_attention_hidden_size", Harmless),
    ("loss_type", Harmless),
    ("tf_legacy_loss", Harmless),
    ("allow_global_per_layer_attribute_access", Harmless),
];

/// Of encoders.
const ENCODER: KeyFates = &[
    ("max_position_embeddings", Computed),
    ("is_causal", FALSE),
    ("eos_token_id", Harmless),
    // heads of other tasks
    ("tie_word_embeddings", Harmless),
];

/// Of decoders with rotary embeddings and windows, which no other family reads.
const ROTARY: KeyFates = &[
    ("layer_types", Harmless),
    ("sliding_window", Harmless),
    ("rope_theta", Harmless),
    ("rope_scaling", Harmless),
    ("rope_parameters", Harmless),
    ("partial_rotary_factor", Harmless),
    ("original_max_position_embeddings", Harmless),
];

/// Of BERT and RoBERTa.
const BERT: KeyFates = &[
    ("hidden_size", Computed),
    ("num_hidden_layers", Computed),
    ("num_attention_heads", Computed),
    ("intermediate_size", Computed),
    ("type_vocab_size", Computed),
    ("layer_norm_eps", Computed),
    ("hidden_act", Computed),
    ("is_decoder", FALSE),
    ("add_cross_attention", FALSE),
    // Transformers 5 knows absolute positions alone, earlier ones computed relative ones too
    ("position_embedding_type", Only(&["null", "\"absolute\""], "\"absolute\"")),
    ("embedding_size", Harmless),
    ("hidden_dropout_prob", Harmless),
    ("attention_probs_dropout_prob", Harmless),
    ("classifier_dropout", Harmless),
];

const DISTILBERT: KeyFates = &[
    ("dim", Computed),
    ("n_layers", Computed),
    ("n_heads", Computed),
    ("hidden_dim", Computed),
    ("activation", Computed),
    // Transformers' names for three of them
    ("hidden_size", Computed),
    ("num_hidden_layers", Computed),
    ("num_attention_heads", Computed),
    ("is_decoder", Harmless),
    ("add_cross_attention", Harmless),
    // such positions too are in the checkpoint
    ("sinusoidal_pos_embds", Harmless),
    ("tie_weights_", Harmless),
    ("output_past", Harmless),
    ("dropout", Harmless),
    ("attention_dropout", Harmless),
    ("qa_dropout", Harmless),
    ("seq_classif_dropout", Harmless),
];

/// Of decoders.
const DECODER: KeyFates = &[
    ("eos_token_id", Computed),
    ("tie_word_embeddings", Computed),
    ("is_causal", Only(&["true"], "true, or the key left out")),
    ("is_decoder", Harmless),
];

/// Of Llama, Mistral and Qwen2.
const LLAMA_LIKE: KeyFates = &[
    ("hidden_size", Computed),
    ("num_hidden_layers", Computed),
    ("num_attention_heads", Computed),
    ("num_key_value_heads", Computed),
    ("head_dim", Computed),
    ("intermediate_size", Computed),
    ("max_position_embeddings", Computed),
    ("rms_norm_eps", Computed),
    ("hidden_act", Computed),
    ("rope_theta", Computed),
    ("rope_scaling", Computed),
    ("rope_parameters", Computed),
    ("partial_rotary_factor", Computed),
    ("original_max_position_embeddings", Computed),
    ("add_cross_attention", Harmless),
    ("attention_dropout", Harmless),
];

const LLAMA: KeyFates = &[
    ("attention_bias", Computed),
    ("mlp_bias", Computed),
    // the same sums in slices, in earlier versions
    ("pretraining_tp", Harmless),
    // Llama has neither, whatever its file says of them
    ("layer_types", Harmless),
    ("sliding_window", Harmless),
    ("_rope_type_labels", NOTHING),
];

const MISTRAL: KeyFates = &[
    ("sliding_window", Computed),
    ("layer_types", Computed),
    // Mistral has no biases, whatever its file says of them
    ("attention_bias", Harmless),
    ("mlp_bias", Harmless),
];

const QWEN2: KeyFates = &[
    ("sliding_window", Computed),
    ("use_sliding_window", Computed),
    ("max_window_layers", Computed),
    ("layer_types", Computed),
    // Qwen2 has those of query, key and value, whatever its file says of them
    ("attention_bias", Harmless),
    ("mlp_bias", Harmless),
];

const GPT2: KeyFates = &[
    ("n_positions", Computed),
    ("n_embd", Computed),
    ("n_layer", Computed),
    ("n_head", Computed),
    ("n_inner", Computed),
    ("layer_norm_epsilon", Computed),
    ("activation_function", Computed),
    // Transformers' names for four of them
    ("max_position_embeddings", Computed),
    ("hidden_size", Computed),
    ("num_hidden_layers", Computed),
    ("num_attention_heads", Computed),
    ("scale_attn_weights", Only(&["true"], "true")),
    ("scale_attn_by_inverse_layer_idx", FALSE),
    ("add_cross_attention", FALSE),
    // the same sums, in f32
    ("reorder_and_upcast_attn", Harmless),
    ("n_ctx", Harmless),
    ("resid_pdrop", Harmless),
    ("embd_pdrop", Harmless),
    ("attn_pdrop", Harmless),
    // of another head
    ("summary_type", Harmless),
    ("summary_use_proj", Harmless),
    ("summary_activation", Harmless),
    ("summary_proj_to_labels", Harmless),
    ("summary_first_dropout", Harmless),
];

/// The tables of a family; no key is in two of them.
pub(super) fn tables(family: Family) -> [KeyFates; 4] {
    match family {
        Family::Bert | Family::Roberta => [COMMON, ENCODER, BERT, ROTARY],
        Family::DistilBert => [COMMON, ENCODER, DISTILBERT, ROTARY],
        Family::Llama => [COMMON, DECODER, LLAMA_LIKE, LLAMA],
        Family::Mistral => [COMMON, DECODER, LLAMA_LIKE, MISTRAL],
        Family::Qwen2 => [COMMON, DECODER, LLAMA_LIKE, QWEN2],
        Family::Gpt2 => [COMMON, DECODER, GPT2, ROTARY],
    }
}

/// Transformers' names for keys that a family has under its own (`attribute_map`).
fn aliases(family: Family) -> &'static [(&'static str, &'static str)] {
    match family {
        Family::DistilBert => {
            &[("hidden_size", "dim"), ("num_attention_heads", "n_heads"), ("num_hidden_layers", "n_layers")]
        }
        Family::Gpt2 => &[
            ("hidden_size", "n_embd"),
            ("max_position_embeddings", "n_positions"),
            ("num_attention_heads", "n_head"),
            ("num_hidden_layers", "n_layer"),
        ],
        _ => &[],
    }
}

/// Refuses what would make another model, and leaves the computed keys alone, in the form that the families' files read:
/// each under the family's own name, no `null` where that means the default.
pub(super) fn check(family: Family, config: &mut Map<String, Value>) -> Result<(), ShapeError> {
    for &(key, fate) in tables(family).into_iter().flatten() {
        let Only(accepted, supported) = fate else { continue };
        match config.get(key) {
            Some(value) if !accepted.contains(&value.to_string().as_str()) => {
                return Err(ShapeError::Unsupported { key, value: shown(value), supported });
            }
            _ => {}
        }
    }
    for &(alias, name) in aliases(family) {
        let Some(value) = config.remove(alias) else { continue };
        match config.get(name) {
            None => drop(config.insert(name.to_owned(), value)),
            Some(own) if *own == value => {}
            Some(own) => return Err(ShapeError::contradiction((name, own), (alias, &value))),
        }
    }
    let computed: Vec<&str> =
        tables(family).into_iter().flatten().filter(|(_, fate)| *fate == Computed).map(|(key, _)| *key).collect();
    // a window that is null is none, one that is left out is the default
    let says = |key: &str, value: &Value| !value.is_null() || ["sliding_window", "num_key_value_heads"].contains(&key);
    config.retain(|key, value| computed.contains(&key.as_str()) && says(key, value));
    Ok(())
}

/// A value for a message.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
