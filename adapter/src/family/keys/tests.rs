//! The tables against the list of keys that Transformers reads, and each entry against what becomes of a file.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Fate, aliases, tables};
use crate::{BaseShape, Family, ShapeError};

fn fates(family: Family) -> impl Iterator<Item = (&'static str, Fate)> {
    tables(family).into_iter().flatten().copied()
}

/// What `tests/config_keys_hf.py keys` printed.
fn listed() -> BTreeMap<String, Value> {
    serde_json::from_str(include_str!("../../../tests/config-keys.json")).unwrap()
}

fn config(family: Family) -> Value {
    let common = json!({"model_type": family.model_type(), "vocab_size": 64, "initializer_range": 0.02});
    let own = match family {
        Family::Bert | Family::Roberta => json!({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "max_position_embeddings": 34, "hidden_act": "gelu", "pad_token_id": 1}),
        Family::DistilBert => json!({"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64,
            "max_position_embeddings": 34, "activation": "gelu", "pad_token_id": 1}),
        Family::Gpt2 => json!({"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "pad_token_id": 1}),
        Family::Llama | Family::Mistral | Family::Qwen2 => json!({"hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64,
            "rope_theta": 10000.0, "sliding_window": 16, "use_sliding_window": true, "max_window_layers": 1,
            "pad_token_id": 1}),
    };
    let both = [common, own].into_iter().flat_map(|part| part.as_object().unwrap().clone());
    Value::Object(both.collect())
}

fn read(config: &Value) -> Result<BaseShape, ShapeError> {
    BaseShape::from_config_json(&config.to_string())
}

#[test]
fn the_tables_hold_every_key_that_transformers_reads_once() {
    let listed = listed();
    assert_eq!(listed["transformers"], "5.24.0");
    for family in Family::ALL {
        let mut keys: Vec<&str> = fates(family).map(|(key, _)| key).collect();
        keys.sort_unstable();
        let twice = keys.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "{family:?}");
        let read: Vec<&str> =
            listed[family.model_type()].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
        assert!(read.len() > 70, "{family:?}: a list that is short proves nothing");
        let unknown: Vec<&&str> = read.iter().filter(|key| !keys.contains(*key)).collect();
        assert!(unknown.is_empty(), "{family:?}: Transformers reads {unknown:?}, the tables do not have them");
        for (alias, name) in aliases(family) {
            assert!(keys.contains(alias) && keys.contains(name), "{family:?} {alias} {name}");
        }
    }
}

#[test]
fn a_value_that_would_make_another_model_is_refused_by_its_key() {
    let mut refused = 0;
    for family in Family::ALL {
        for (wanted, fate) in fates(family) {
            let Fate::Only(accepted, supported) = fate else { continue };
            let offending =
                [json!(true), json!(false), json!({"1": {"x": 2}}), json!("regression"), json!(7), json!(null)];
            for value in offending.into_iter().filter(|value| !accepted.contains(&value.to_string().as_str())) {
                let mut config = config(family);
                config[wanted] = value.clone();
                let error = read(&config).unwrap_err();
                assert!(matches!(error, ShapeError::Unsupported { key, .. } if key == wanted), "{family:?} {error}");
                assert!(error.to_string().contains(wanted) && error.to_string().contains(supported), "{error}");
                refused += 1;
            }
            for value in accepted {
                let mut config = config(family);
                config[wanted] = serde_json::from_str(value).unwrap();
                assert_eq!(read(&config), read(&self::config(family)), "{family:?} {wanted} {value}");
            }
        }
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn a_harmless_key_changes_nothing_and_an_unknown_one_neither() {
    for family in Family::ALL {
        let plain = read(&config(family)).unwrap();
        let harmless = fates(family).filter(|(_, fate)| *fate == Fate::Harmless).map(|(key, _)| key);
        for key in harmless.chain(["a_key_of_nobody"]) {
            for value in [json!(true), json!(3), json!(null), json!("text"), json!({"a": [1]})] {
                let mut config = config(family);
                config[key] = value;
                assert_eq!(read(&config).as_ref(), Ok(&plain), "{family:?} {key}");
            }
        }
    }
}

/// Two other values of each computed key: each makes another shape, or is refused.
const OTHER: &[(&str, [&str; 2])] = &[
    ("model_type", ["\"albert\"", "7"]),
    ("vocab_size", ["65", "0"]),
    ("initializer_range", ["0.03", "0"]),
    ("pad_token_id", ["2", "-1"]),
    ("eos_token_id", ["[2, 3]", "64"]),
    ("tie_word_embeddings", ["true", "false"]),
    ("max_position_embeddings", ["48", "0"]),
    ("num_key_value_heads", ["1", "3"]),
    ("head_dim", ["16", "7"]),
    ("type_vocab_size", ["3", "0"]),
    ("layer_norm_eps", ["0.01", "0"]),
    ("rms_norm_eps", ["0.01", "0"]),
    ("layer_norm_epsilon", ["0.01", "0"]),
    ("hidden_act", ["\"relu\"", "\"tanh\""]),
    ("activation", ["\"relu\"", "\"tanh\""]),
    ("activation_function", ["\"gelu\"", "\"tanh\""]),
    ("intermediate_size", ["48", "0"]),
    ("hidden_dim", ["48", "0"]),
    ("n_inner", ["48", "0"]),
    ("hidden_size", ["48", "0"]),
    ("dim", ["48", "0"]),
    ("n_embd", ["48", "0"]),
    ("num_hidden_layers", ["3", "0"]),
    ("n_layers", ["3", "0"]),
    ("n_layer", ["3", "0"]),
    ("num_attention_heads", ["8", "5"]),
    ("n_heads", ["8", "5"]),
    ("n_head", ["8", "5"]),
    ("n_positions", ["48", "0"]),
    ("rope_theta", ["500.0", "0"]),
    ("rope_scaling", ["{\"type\": \"linear\", \"factor\": 2}", "{\"rope_type\": \"yarn\"}"]),
    ("rope_parameters", ["{\"rope_type\": \"linear\", \"factor\": 2}", "{\"rope_theta\": 500.0}"]),
    ("partial_rotary_factor", ["0.5", "0.25"]),
    ("attention_bias", ["true", "7"]),
    ("mlp_bias", ["true", "7"]),
    ("sliding_window", ["8", "0"]),
    ("use_sliding_window", ["false", "7"]),
    ("max_window_layers", ["0", "-1"]),
    ("layer_types", ["[\"sliding_attention\", \"full_attention\"]", "[\"full_attention\"]"]),
];

#[test]
fn a_computed_key_makes_another_shape_or_is_refused() {
    for family in Family::ALL {
        for (key, fate) in fates(family) {
            // it counts with llama3 alone: in the decoders' tests
            if fate != Fate::Computed || key == "original_max_position_embeddings" {
                continue;
            }
            let (_, others) = OTHER.iter().find(|(other, _)| *other == key).expect(key);
            let plain = read(&config(family)).unwrap();
            let changed = others.iter().filter(|other| {
                let mut config = config(family);
                config[key] = serde_json::from_str(other).unwrap();
                read(&config).as_ref() != Ok(&plain)
            });
            // one of the two values of a flag is the default, and an encoder with places from 0 needs no padding token
            let needed = if matches!(key, "tie_word_embeddings" | "pad_token_id") { 1 } else { 2 };
            assert!(changed.count() >= needed, "{family:?}: {key} changes nothing");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_which_key_it_is() {
    for (family, key, value) in [
        (Family::Bert, "hidden_size", json!("32")),
        (Family::Llama, "rms_norm_eps", json!("small")),
        (Family::Llama, "rope_scaling", json!(7)),
        (Family::Mistral, "layer_types", json!(3)),
        (Family::Qwen2, "use_sliding_window", json!(1)),
        (Family::Gpt2, "eos_token_id", json!(-1)),
    ] {
        let mut config = config(family);
        config[key] = value;
        let error = read(&config).unwrap_err().to_string();
        assert!(error.contains(&format!("cannot be read: {key}: ")), "{error}");
        let mut config = self::config(family);
        config.as_object_mut().unwrap().remove("vocab_size");
        assert!(read(&config).unwrap_err().to_string().contains("cannot be read: missing field `vocab_size`"));
    }
    // neither the file without a family
    for value in [json!(null), json!({"model_type": null})] {
        let mut config = config(Family::Bert);
        config.as_object_mut().unwrap().remove("model_type");
        config.as_object_mut().unwrap().extend(value.as_object().cloned().unwrap_or_default());
        let error = read(&config).unwrap_err();
        assert!(error == ShapeError::NoArchitecture && error.to_string().contains("\"model_type\": "), "{error}");
    }
}

#[test]
fn two_names_for_one_thing_must_agree() {
    for family in Family::ALL {
        for &(alias, name) in aliases(family) {
            let plain = read(&config(family)).unwrap();
            let mut both = config(family);
            both[alias] = both[name].clone();
            assert_eq!(read(&both).as_ref(), Ok(&plain));
            // alone it is read as Transformers reads it
            both.as_object_mut().unwrap().remove(name);
            assert_eq!(read(&both).as_ref(), Ok(&plain));
            let mut other = config(family);
            other[alias] = json!(2 * other[name].as_u64().unwrap());
            let error = read(&other).unwrap_err();
            assert!(matches!(&error, ShapeError::Contradiction { .. }), "{error}");
            assert!(error.to_string().contains(alias) && error.to_string().contains(name), "{error}");
        }
    }
    let counted: usize = Family::ALL.into_iter().map(|family| aliases(family).len()).sum();
    assert_eq!(counted, 7);
}
