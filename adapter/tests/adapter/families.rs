//! RoBERTa and DistilBERT: keys of `config.json`, layers, head, and their adapters on disk under PEFT's names.

use std::fs;

use blindsum_adapter::peft::{PeftMeta, load, save};
use blindsum_adapter::{
    Adapter, AdapterLayout, BaseShape, Family, Head, Init, LayoutError, LoraConfig, Method, RoundKind, ShapeError,
    Targets, Task, init_a, init_head, initial_values,
};
use serde_json::{Value, json};

/// The parts of roberta-base's `config.json` that matter.
fn roberta() -> Value {
    json!({"model_type": "roberta", "hidden_act": "gelu", "hidden_size": 768, "initializer_range": 0.02,
        "intermediate_size": 3072, "layer_norm_eps": 1e-5, "max_position_embeddings": 514, "num_attention_heads": 12,
        "num_hidden_layers": 12, "pad_token_id": 1, "type_vocab_size": 1, "vocab_size": 50265, "bos_token_id": 0})
}

/// Those of distilbert-base-uncased.
fn distilbert() -> Value {
    json!({"model_type": "distilbert", "activation": "gelu", "dim": 768, "hidden_dim": 3072, "n_heads": 12,
        "n_layers": 6, "max_position_embeddings": 512, "vocab_size": 30522, "pad_token_id": 0,
        "sinusoidal_pos_embds": false, "tie_weights_": true, "qa_dropout": 0.1, "initializer_range": 0.02})
}

/// Both families, small.
fn small() -> [BaseShape; 2] {
    let roberta = json!({"model_type": "roberta", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "vocab_size": 50, "max_position_embeddings": 34, "type_vocab_size": 1});
    let distilbert = json!({"model_type": "distilbert", "dim": 8, "hidden_dim": 16, "n_layers": 2, "n_heads": 2,
        "vocab_size": 50, "max_position_embeddings": 32});
    [roberta, distilbert].map(|config| BaseShape::from_config_json(&config.to_string()).unwrap())
}

fn lora(head: Head) -> LoraConfig {
    let target_modules = None;
    let init = Init::KaimingUniform;
    LoraConfig {
        method: Method::FfaLora,
        r: 2,
        lora_alpha: 4.0,
        target_modules,
        init,
        seed: 1,
        head,
        refresh_rounds: None,
    }
}

fn layout(shape: &BaseShape, head: Head) -> AdapterLayout {
    AdapterLayout::new(shape, &lora(head), Task::classify(3)).unwrap()
}

#[test]
fn published_configs_are_read() {
    let shape = BaseShape::from_config_json(&roberta().to_string()).unwrap();
    assert_eq!(shape.family, Family::Roberta);
    assert_eq!((shape.hidden, shape.layers, shape.intermediate, shape.heads), (768, 12, 3072, 12));
    assert_eq!((shape.max_positions, shape.first_position, shape.position_rows()), (512, 2, 514));
    assert_eq!((shape.token_types, shape.norm_eps, shape.pad_token), (1, 1e-5, Some(1)));

    let shape = BaseShape::from_config_json(&distilbert().to_string()).unwrap();
    assert_eq!(shape.family, Family::DistilBert);
    assert_eq!((shape.hidden, shape.layers, shape.intermediate, shape.heads), (768, 6, 3072, 12));
    assert_eq!((shape.max_positions, shape.first_position, shape.position_rows()), (512, 0, 512));
    assert_eq!((shape.token_types, shape.norm_eps, shape.pad_token), (0, 1e-12, Some(0)));
}

#[test]
fn what_is_not_computed_is_refused_by_the_familys_own_key() {
    for (base, key, value) in [
        (roberta(), "hidden_act", json!("relu")),
        (roberta(), "is_decoder", json!(true)),
        (roberta(), "position_embedding_type", json!("relative_key")),
        (distilbert(), "activation", json!("relu")),
    ] {
        let mut config = base;
        config[key] = value;
        let error = BaseShape::from_config_json(&config.to_string()).unwrap_err();
        assert!(matches!(error, ShapeError::Unsupported { key: k, .. } if k == key), "{error}");
    }
    for (base, key, value) in [
        (roberta(), "hidden_size", json!(0)),
        (roberta(), "max_position_embeddings", json!(2)),
        (roberta(), "type_vocab_size", json!(0)),
        (distilbert(), "dim", json!(0)),
        (distilbert(), "n_layers", json!(1001)),
        (distilbert(), "n_heads", json!(7)),
        (distilbert(), "hidden_dim", json!(1u64 << 40)),
    ] {
        let mut config = base;
        config[key] = value;
        let error = BaseShape::from_config_json(&config.to_string()).unwrap_err();
        assert!(matches!(error, ShapeError::Dimension { key: k, .. } if k == key), "{error}");
    }
    let mut other = roberta();
    other["model_type"] = json!("electra");
    let error = BaseShape::from_config_json(&other.to_string()).unwrap_err().to_string();
    assert!(error.contains("\"electra\"") && error.contains("bert, roberta, distilbert"), "{error}");
}

#[test]
fn targets_match_as_in_peft_and_never_the_head() {
    let [roberta, distilbert] = small();
    let paths = |shape: &BaseShape, target: &str| -> Result<Vec<String>, LayoutError> {
        let lora = LoraConfig { target_modules: Some(Targets::names(&[target])), ..lora(Head::Frozen) };
        Ok(AdapterLayout::new(shape, &lora, Task::classify(3))?.modules().iter().map(|m| m.path.clone()).collect())
    };
    assert_eq!(paths(&roberta, "output.dense").unwrap().len(), 4);
    assert_eq!(paths(&roberta, "layer.1.attention.self.key").unwrap(), ["roberta.encoder.layer.1.attention.self.key"]);
    assert_eq!(
        paths(&distilbert, "lin1").unwrap(),
        ["distilbert.transformer.layer.0.ffn.lin1", "distilbert.transformer.layer.1.ffn.lin1"]
    );
    // PEFT would put an adapter on classifier.dense too
    let error = paths(&roberta, "dense").unwrap_err();
    assert_eq!(error, LayoutError::InHead { layer: "classifier.dense" });
    assert!(error.to_string().contains("output.dense"), "{error}");
    for (shape, target) in [
        (&roberta, "pooler.dense"),
        (&roberta, "out_proj"),
        (&distilbert, "query"),
        (&distilbert, "classifier"),
        (&distilbert, "lin"),
    ] {
        let error = paths(shape, target).unwrap_err();
        assert_eq!(error, LayoutError::NoSuchModule { target: target.to_owned(), family: shape.family });
        assert!(error.to_string().contains(&shape.family.default_target_modules().join(", ")), "{error}");
    }
}

#[test]
fn modules_have_the_shapes_of_their_layers() {
    for shape in small() {
        let every = ["attention.output.dense", "intermediate.dense", "output.dense", "query", "key", "value"];
        let other = ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"];
        let targets = if shape.family == Family::Roberta { every } else { other };
        let target_modules = Some(Targets::names(&targets));
        let lora = LoraConfig { target_modules, ..lora(Head::Frozen) };
        let layout = AdapterLayout::new(&shape, &lora, Task::classify(3)).unwrap();
        let sizes: Vec<_> = layout.modules().iter().map(|m| (m.in_features, m.out_features)).collect();
        let layer = [(8, 8), (8, 8), (8, 8), (8, 8), (8, 16), (16, 8)];
        assert_eq!(sizes, [layer, layer].concat());
    }
}

#[test]
fn the_head_has_two_layers_that_tile_its_ranges() {
    for shape in small() {
        let layout = layout(&shape, Head::Trained);
        let (weights, biases) = init_head(&layout);
        assert_eq!((weights.len(), biases), (8 * 8 + 3 * 8, vec![0.0; 8 + 3]));
        assert_ne!(weights[..24], weights[64..], "each layer has a stream of its own");
        let parts = layout.head_parts();
        assert_eq!((&parts[0].weight, &parts[0].bias), (&(0..64), &(0..8)));
        assert_eq!((&parts[1].weight, &parts[1].bias), (&(64..88), &(8..11)));
        let ranges = layout.head_ranges().unwrap();
        assert_eq!((ranges.weight.start, ranges.weight.len()), (layout.b_len(), 88));
        assert_eq!((ranges.bias.start, ranges.bias.end), (ranges.weight.end, layout.len()));
        assert_eq!(layout.segments(RoundKind::TrainB), [("lora_B", 64), ("head", 99)]);
        assert_eq!(initial_values(&layout)[ranges.weight], weights);
    }
}

/// Bit-equality on every machine and for ever, as for BERT in `init.rs`.
#[test]
fn frozen_vectors() {
    let expected = [ROBERTA, DISTILBERT];
    for (shape, (hash, first, last)) in small().iter().zip(expected) {
        let layout = layout(shape, Head::Trained);
        let (weights, _) = init_head(&layout);
        let bits = |x: f32| format!("{:08x}", x.to_bits());
        let found = (hex::encode(layout.hash()), bits(weights[0]), bits(weights[64]));
        assert_eq!(found, (hash.to_owned(), first.to_owned(), last.to_owned()));
    }
}

const ROBERTA: (&str, &str, &str) =
    ("50eb8a8b03b8a228ee54159e781f7968fc58c4e6cec9853d29dda35ef9d46669", "3b18ac62", "bc7c2da9");
const DISTILBERT: (&str, &str, &str) =
    ("e2fde85a0b5e13a3abf23148ddb35187c43c37afdaba854e12acbc9bb9a2b070", "bc885933", "bd1381c3");

#[test]
fn what_is_saved_is_loaded_under_pefts_names() {
    for shape in small() {
        for head in [Head::Frozen, Head::Trained] {
            let layout = layout(&shape, head);
            let dir = tempfile::tempdir().unwrap();
            let values: Vec<f32> =
                initial_values(&layout).iter().enumerate().map(|(i, x)| x + i as f32 / 128.0).collect();
            let labels = ["bad", "so-so", "good"].map(str::to_owned).to_vec();
            let meta = PeftMeta { base_model_name_or_path: "some/base".to_owned(), labels, provenance: None };
            save(dir.path(), &layout, &init_a(&layout), &init_head(&layout), Adapter::of(&values), &meta).unwrap();

            let loaded = load(dir.path(), &shape).unwrap();
            assert_eq!((&loaded.layout, &loaded.meta, &loaded.values), (&layout, &meta, &values));
            assert_eq!(loaded.a, init_a(&layout));
            let frozen = init_head(&layout);
            let (weights, biases) = layout.head_in_force(&values, &frozen);
            assert_eq!((loaded.head.0.as_slice(), loaded.head.1.as_slice()), (weights, biases));

            let names: [&str; 2] = match shape.family {
                Family::Roberta => ["classifier.dense", "classifier.out_proj"],
                _ => ["pre_classifier", "classifier"],
            };
            let bytes = fs::read(dir.path().join("adapter_model.safetensors")).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            for (name, part) in names.iter().zip(layout.head_parts()) {
                let weight = file.tensor(&format!("base_model.model.{name}.weight")).unwrap();
                let bias = file.tensor(&format!("base_model.model.{name}.bias")).unwrap();
                assert_eq!(weight.shape(), [part.bias.len(), 8]);
                assert_eq!(weight.data()[..4], weights[part.weight.start].to_le_bytes());
                assert_eq!(bias.data()[..4], biases[part.bias.start].to_le_bytes());
            }
            let text = fs::read_to_string(dir.path().join("adapter_config.json")).unwrap();
            let config: Value = serde_json::from_str(&text).unwrap();
            let modules = if shape.family == Family::Roberta {
                json!(["classifier"])
            } else {
                json!(["pre_classifier", "classifier"])
            };
            assert_eq!(config["modules_to_save"], modules);
        }
    }
}

#[test]
fn an_adapter_of_another_family_is_refused() {
    let [roberta, distilbert] = small();
    let layout = layout(&roberta, Head::Frozen);
    let dir = tempfile::tempdir().unwrap();
    let meta =
        PeftMeta { base_model_name_or_path: "some/base".to_owned(), labels: vec!["x".to_owned(); 3], provenance: None };
    save(dir.path(), &layout, &init_a(&layout), &init_head(&layout), Adapter::of(&initial_values(&layout)), &meta)
        .unwrap();
    let error = load(dir.path(), &distilbert).unwrap_err().to_string();
    assert!(error.contains("modules_to_save") && error.contains("pre_classifier"), "{error}");
}
