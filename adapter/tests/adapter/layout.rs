//! The layout against PEFT's rules of matching and against its own arithmetic.

use blindsum_adapter::{
    AdapterLayout, BaseShape, Family, Head, Init, LayoutError, LoraConfig, Method, RoundKind, Targets, Task,
    initial_values,
};

fn shape() -> BaseShape {
    let text = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 16,
        "num_attention_heads": 2, "vocab_size": 50, "max_position_embeddings": 32}"#;
    BaseShape::from_config_json(text).unwrap()
}

fn lora(targets: &[&str], head: Head) -> LoraConfig {
    LoraConfig {
        method: Method::FfaLora,
        r: 2,
        lora_alpha: 4.0,
        target_modules: Some(Targets::names(targets)),
        init: Init::KaimingUniform,
        seed: 1,
        head,
        refresh_rounds: None,
    }
}

fn paths(targets: &[&str]) -> Vec<String> {
    let layout = AdapterLayout::new(&shape(), &lora(targets, Head::Frozen), Task::classify(3)).unwrap();
    layout.modules().iter().map(|m| m.path.clone()).collect()
}

#[test]
fn modules_stand_in_model_order_whatever_the_order_of_the_targets() {
    let expected = [
        "bert.encoder.layer.0.attention.self.query",
        "bert.encoder.layer.0.attention.self.value",
        "bert.encoder.layer.1.attention.self.query",
        "bert.encoder.layer.1.attention.self.value",
    ];
    assert_eq!(paths(&["query", "value"]), expected);
    assert_eq!(paths(&["value", "query"]), expected);
}

#[test]
fn targets_match_the_end_of_a_path_at_a_dot() {
    assert_eq!(paths(&["dense"]).len(), 2 * 3 + 1);
    assert_eq!(paths(&["output.dense"]).len(), 2 * 2);
    assert_eq!(paths(&["attention.output.dense"]).len(), 2);
    assert_eq!(paths(&["bert.pooler.dense"]), ["bert.pooler.dense"]);
    assert_eq!(paths(&["layer.1.attention.self.key"]), ["bert.encoder.layer.1.attention.self.key"]);
    for target in ["uery", "ense", "classifier", "word_embeddings", "", ".query", "all-linear"] {
        let error =
            AdapterLayout::new(&shape(), &lora(&["query", target], Head::Frozen), Task::classify(3)).unwrap_err();
        assert_eq!(error, LayoutError::NoSuchModule { target: target.to_owned(), family: Family::Bert });
    }
}

#[test]
fn ranges_tile_the_vector() {
    for head in [Head::Frozen, Head::Trained] {
        let layout =
            AdapterLayout::new(&shape(), &lora(&["query", "intermediate.dense"], head), Task::classify(3)).unwrap();
        let mut end = 0;
        for (i, module) in layout.modules().iter().enumerate() {
            let range = layout.b_range(i);
            assert_eq!((range.start, range.len()), (end, module.out_features * 2));
            end = range.end;
        }
        assert_eq!(end, 2 * (8 * 2 + 16 * 2));
        if let Some(head) = layout.head_ranges() {
            assert_eq!((head.weight.start, head.weight.len()), (end, 3 * 8));
            assert_eq!((head.bias.start, head.bias.len()), (head.weight.end, 3));
            end = head.bias.end;
        }
        assert_eq!(end, layout.len());
        assert_eq!(layout.segments(RoundKind::TrainB).iter().map(|(_, length)| length).sum::<usize>(), layout.len());
        assert_eq!(layout.segments(RoundKind::TrainB).len(), if head == Head::Trained { 2 } else { 1 });
        assert_eq!(initial_values(&layout).len(), layout.len());
    }
}

#[test]
fn values_out_of_range_are_refused_by_key() {
    let refused = |change: fn(&mut LoraConfig)| {
        let mut lora = lora(&["query"], Head::Frozen);
        change(&mut lora);
        AdapterLayout::new(&shape(), &lora, Task::classify(3)).unwrap_err().to_string()
    };
    assert!(refused(|l| l.r = 0).contains("lora.r is 0"));
    let message = refused(|l| l.r = 9);
    assert!(message.contains("lora.r is 9") && message.contains("layer.0.attention.self.query"), "{message}");
    assert!(refused(|l| l.lora_alpha = f64::NAN).contains("lora.lora_alpha"));
    assert!(refused(|l| l.lora_alpha = -1.0).contains("lora.lora_alpha"));
    assert!(refused(|l| l.target_modules = Some(Targets::names(&[]))).contains("lora.target_modules"));
    assert!(refused(|l| l.target_modules = Some(Targets::names(&["query", "value", "query"]))).contains("twice"));
    for labels in [0, 1, 1001] {
        let error = AdapterLayout::new(&shape(), &lora(&["query"], Head::Frozen), Task::classify(labels)).unwrap_err();
        assert_eq!(error, LayoutError::Labels(labels));
    }
}

#[test]
fn the_hash_depends_on_everything_that_gives_the_vector_its_meaning() {
    let base = lora(&["query", "value"], Head::Frozen);
    let hash = |l: &LoraConfig, labels| AdapterLayout::new(&shape(), l, Task::classify(labels)).unwrap().hash();
    let mut all = vec![hash(&base, 3), hash(&base, 2)];
    let changes: [fn(&mut LoraConfig); 6] = [
        |l| l.r = 3,
        |l| l.lora_alpha = 5.0,
        |l| l.init = Init::Orthonormal,
        |l| l.seed = 2,
        |l| l.head = Head::Trained,
        |l| l.target_modules = Some(Targets::names(&["query"])),
    ];
    for change in changes {
        let mut other = base.clone();
        change(&mut other);
        all.push(hash(&other, 3));
    }
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
    let mut reordered = base.clone();
    reordered.target_modules = Some(Targets::names(&["value", "query"]));
    assert_eq!(hash(&base, 3), hash(&reordered, 3), "the order in which targets are named means nothing");
}

#[test]
fn the_lora_table_is_closed_and_has_defaults() {
    let text = r#"{"method": "ffa-lora", "r": 8, "lora_alpha": 16, "seed": 7}"#;
    let config: LoraConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.target_modules, None);
    assert_eq!((config.init, config.head, config.scaling()), (Init::KaimingUniform, Head::Frozen, 2.0));
    assert!(serde_json::from_str::<LoraConfig>(&text.replace("\"r\"", "\"rank\": 1, \"r\"")).is_err());
    assert!(serde_json::from_str::<LoraConfig>(&text.replace("ffa-lora", "vera")).is_err());
}
