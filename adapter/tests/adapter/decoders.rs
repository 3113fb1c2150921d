//! What the crate knows of Llama, Mistral, Qwen2 and GPT-2: `config.json`, targets, tasks, and files for PEFT.

use blindsum_adapter::peft::{self, PeftMeta};
use blindsum_adapter::{
    Activation, Adapter, AdapterLayout, BaseShape, Family, Head, Init, LayoutError, LoraConfig, Method, RotaryScaling,
    ShapeError, Targets, Task, Window, init_a, init_head,
};
use serde_json::{Value, json};

fn llama() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "vocab_size": 64,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "tie_word_embeddings": true, "eos_token_id": [2, 7],
        "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 64},
    })
}

fn of(model_type: &str, changes: Value) -> Value {
    let mut config = llama();
    config["model_type"] = json!(model_type);
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn gpt2() -> Value {
    json!({"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64, "n_positions": 128,
           "eos_token_id": 63})
}

fn shape(config: &Value) -> BaseShape {
    BaseShape::from_config_json(&config.to_string()).unwrap()
}

fn refused(config: &Value) -> ShapeError {
    BaseShape::from_config_json(&config.to_string()).unwrap_err()
}

fn lora(targets: Option<Targets>) -> LoraConfig {
    let (init, head) = (Init::KaimingUniform, Head::Frozen);
    LoraConfig {
        method: Method::FfaLora,
        r: 2,
        lora_alpha: 4.0,
        target_modules: targets,
        init,
        seed: 1,
        head,
        refresh_rounds: None,
    }
}

#[test]
fn llamas_config_is_read_whole() {
    let shape = shape(&llama());
    let decoder = shape.decoder.clone().unwrap();
    assert_eq!((shape.kv_heads(), shape.head_width(), decoder.tied_embeddings), (2, 8, true));
    assert_eq!((shape.norm_eps, shape.pad_token, &decoder.end_tokens[..]), (1e-5, None, &[2, 7][..]));
    assert_eq!((decoder.activation, decoder.window), (Activation::Silu, None));
    let rotary = decoder.rotary.unwrap();
    assert_eq!(rotary.theta, 500_000.0);
    assert!(matches!(rotary.scaling, RotaryScaling::Llama3 { factor: 8.0, original_positions: 64.0, .. }));

    // newer files keep everything in one table
    let mut newer = llama();
    newer.as_object_mut().unwrap().remove("rope_theta");
    newer["rope_parameters"] = newer["rope_scaling"].take();
    newer["rope_parameters"]["rope_theta"] = json!(500000.0);
    assert_eq!(BaseShape::from_config_json(&newer.to_string()).unwrap().decoder.unwrap().rotary.unwrap(), rotary);

    // what may be left out
    let plain = json!({
        "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "vocab_size": 64,
        "num_attention_heads": 4, "max_position_embeddings": 128});
    let decoder = self::shape(&plain).decoder.unwrap();
    assert_eq!((decoder.kv_heads, decoder.tied_embeddings, decoder.end_tokens.len()), (4, false, 0));
    assert_eq!(decoder.rotary.unwrap().theta, 10_000.0);
}

#[test]
fn frequencies_are_those_of_hugging_face() {
    // ROPE_INIT_FUNCTIONS["llama3"] of transformers 5.24.0 for this config, head_dim 8
    let frequencies = shape(&llama()).decoder.unwrap().rotary.unwrap().frequencies(8);
    let plain: Vec<f64> = (0..4).map(|i| 500_000f64.powf(-f64::from(i) / 4.0)).collect();
    // wavelengths 6.28, 167, 4443, 118143 against 64/4 and 64/1: the first is kept, the others divided by 8
    for (i, found) in frequencies.iter().enumerate() {
        let expected = if i == 0 { plain[i] } else { plain[i] / 8.0 };
        assert!((f64::from(*found) / expected - 1.0).abs() < 1e-6, "{i}: {found} {expected}");
    }
    // between the two bounds: smooth = (64/w - 1)/3
    let mut config = llama();
    config["rope_theta"] = json!(10_000.0);
    config["head_dim"] = json!(16);
    let frequencies = shape(&config).decoder.unwrap().rotary.unwrap().frequencies(16);
    let plain = 10_000f64.powf(-0.125); // wavelength 19.87
    let smooth = (64.0 * plain / (2.0 * std::f64::consts::PI) - 1.0) / 3.0;
    let expected = (1.0 - smooth) * plain / 8.0 + smooth * plain;
    assert!((f64::from(frequencies[1]) / expected - 1.0).abs() < 1e-6);
}

#[test]
fn windows_and_biases_are_the_familys() {
    let window = |config: &Value| shape(config).decoder.unwrap().window;
    let some = |tokens, layers: [bool; 2]| Some(Window { tokens, layers: layers.to_vec() });
    let all = |tokens| some(tokens, [true, true]);
    assert_eq!(window(&of("mistral", json!({}))), all(4096));
    assert_eq!(window(&of("mistral", json!({"sliding_window": 16}))), all(16));
    assert_eq!(window(&of("mistral", json!({"sliding_window": null}))), None);
    assert_eq!(window(&of("qwen2", json!({"sliding_window": 16}))), None);
    let asks = json!({"sliding_window": 16, "use_sliding_window": true, "max_window_layers": 1});
    assert_eq!(window(&of("qwen2", asks.clone())), some(16, [false, true]));
    // a list of layers is followed
    for mut listed in [of("qwen2", asks), of("mistral", json!({"sliding_window": 16}))] {
        listed["layer_types"] = json!(["attention", "sliding_attention"]);
        assert_eq!(window(&listed), some(16, [false, true]));
        listed["layer_types"] = json!(["sliding_attention", "full_attention"]);
        assert_eq!(window(&listed), some(16, [true, false]));
        listed["layer_types"] = json!(["full_attention", "full_attention"]);
        assert_eq!(window(&listed), None);
        listed["layer_types"] = json!(["full_attention", "chunked_attention"]);
        assert!(refused(&listed).to_string().contains("layer_types to \"chunked_attention\""));
        listed["layer_types"] = json!(["sliding_attention"]);
        let error = refused(&listed).to_string();
        assert!(error.contains("num_hidden_layers") && error.contains("layer_types"), "{error}");
        listed["layer_types"] = json!(["sliding_attention", "full_attention"]);
        listed["sliding_window"] = json!(null);
        let error = refused(&listed).to_string();
        assert!(error.contains("layer_types") && error.contains("sliding_window"), "{error}");
    }
    assert!(refused(&of("mistral", json!({"sliding_window": 0}))).to_string().contains("sliding_window"));

    let biases = |config: &Value| shape(config).decoder.unwrap().biases;
    assert!(biases(&of("qwen2", json!({}))).qkv && !biases(&of("qwen2", json!({}))).output);
    assert!(!biases(&llama()).qkv && biases(&of("llama", json!({"attention_bias": true}))).output);
    assert!(!biases(&of("mistral", json!({"attention_bias": true}))).qkv);
    assert!(biases(&gpt2()).feed_forward);
}

#[test]
fn what_the_engine_does_not_compute_is_refused_by_name() {
    let scaled = |kind: &str| of("llama", json!({"rope_scaling": {"rope_type": kind, "factor": 2.0}}));
    shape(&scaled("linear"));
    for (config, words) in [
        (scaled("yarn"), "rope_scaling.rope_type"),
        (of("llama", json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}})), "\"dynamic\""),
        (of("llama", json!({"rope_scaling": {"rope_type": "linear"}})), "rope_scaling.factor"),
        (of("llama", json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}})), "low_freq_factor"),
        (of("llama", json!({"rope_theta": 0.0})), "rope_theta"),
        (of("llama", json!({"eos_token_id": [2, 64]})), "eos_token_id to 64: it must be below vocab_size"),
        (of("mistral", json!({"eos_token_id": 64})), "eos_token_id"),
        (of("llama", json!({"partial_rotary_factor": 0.5})), "partial_rotary_factor"),
        (of("llama", json!({"hidden_act": "gelu"})), "hidden_act"),
        (of("llama", json!({"num_key_value_heads": 3})), "num_key_value_heads"),
        (of("llama", json!({"num_attention_heads": 5, "num_key_value_heads": 5})), "num_attention_heads"),
        (of("llama", json!({"head_dim": 7})), "head_dim"),
        (of("llama", json!({"rms_norm_eps": 0.0})), "rms_norm_eps"),
    ] {
        let error = refused(&config).to_string();
        assert!(error.contains(words), "{error}");
    }
    for (key, value) in [
        ("activation_function", json!("relu")),
        ("scale_attn_weights", json!(false)),
        ("scale_attn_by_inverse_layer_idx", json!(true)),
        ("add_cross_attention", json!(true)),
        ("n_head", json!(5)),
        ("n_positions", json!(0)),
    ] {
        let mut config = gpt2();
        config[key] = value;
        let error = refused(&config).to_string();
        assert!(error.contains(key), "{error}");
    }
}

/// What Transformers 5.24 reads from the same keys; where two say different things it takes one, which is refused here.
#[test]
fn rotary_positions_are_read_from_one_place_or_from_two_that_agree() {
    let rotary = |changes: Value| {
        let mut config = of("llama", json!({"rope_scaling": null}));
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        BaseShape::from_config_json(&config.to_string()).map(|shape| shape.decoder.unwrap().rotary.unwrap())
    };
    let linear = json!({"rope_type": "linear", "factor": 4.0});
    let expected = rotary(json!({"rope_scaling": linear})).unwrap();
    assert_eq!(expected.scaling, RotaryScaling::Linear { factor: 4.0 });
    let with = |key: &str, value: Value| {
        let mut table = linear.clone();
        table[key] = value;
        table
    };
    for same in [
        json!({"rope_scaling": {"type": "linear", "factor": 4}}),
        // as versions 4.43 to 4.57 saved older files anew
        json!({"rope_scaling": with("type", json!("linear"))}),
        json!({"rope_parameters": with("rope_theta", json!(500_000.0))}),
        json!({"rope_parameters": with("rope_theta", json!(500_000)), "rope_theta": null}),
        json!({"rope_scaling": linear, "rope_parameters": with("rope_theta", json!(500_000.0))}),
        json!({"rope_scaling": {}, "rope_parameters": linear}),
        json!({"rope_scaling": linear, "original_max_position_embeddings": 32}),
    ] {
        assert_eq!(rotary(same.clone()).as_ref(), Ok(&expected), "{same}");
    }
    for (other, words) in [
        (json!({"rope_scaling": with("type", json!("dynamic"))}), ["rope_type", "type"]),
        (
            json!({"rope_parameters": with("rope_theta", json!(500.0))}),
            ["rope_parameters.rope_theta to 500.0", "rope_theta to 500000.0"],
        ),
        (
            json!({"rope_scaling": linear, "rope_parameters": {"rope_type": "default"}}),
            ["rope_scaling", "rope_parameters"],
        ),
        (json!({"rope_scaling": {"full_attention": linear}}), ["rope_scaling", "full_attention"]),
        (json!({"rope_scaling": with("partial_rotary_factor", json!(0.5))}), ["partial_rotary_factor", "0.5"]),
        (json!({"rope_scaling": with("factor", json!("4"))}), ["rope_scaling", "expected f64"]),
    ] {
        let error = rotary(other).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    // the length that the model was first trained on, in the table, outside, or in both
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
    let original = |inner: Option<u32>, outer: Value| {
        let mut table = llama3.clone();
        inner.into_iter().for_each(|n| table["original_max_position_embeddings"] = json!(n));
        match rotary(json!({"rope_scaling": table, "original_max_position_embeddings": outer}))?.scaling {
            RotaryScaling::Llama3 { original_positions, .. } => Ok::<f64, ShapeError>(original_positions),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(original(Some(64), json!(null)), Ok(64.0));
    assert_eq!(original(None, json!(32)), Ok(32.0));
    assert_eq!(original(Some(64), json!(64)), Ok(64.0));
    assert_eq!(original(None, json!(null)), Ok(128.0));
    assert!(original(Some(64), json!(32)).unwrap_err().to_string().contains("original_max_position_embeddings"));
}

#[test]
fn what_is_null_or_left_out_has_hugging_faces_default() {
    let kv_heads = |config: Value| BaseShape::from_config_json(&config.to_string()).map(|shape| shape.kv_heads());
    for (family, default) in [("llama", 32), ("mistral", 8), ("qwen2", 32)] {
        let mut config = of(family, json!({"num_attention_heads": 32, "num_key_value_heads": null}));
        config["head_dim"] = json!(2);
        assert_eq!(kv_heads(config.clone()), Ok(32));
        config.as_object_mut().unwrap().remove("num_key_value_heads");
        assert_eq!(kv_heads(config), Ok(default), "{family}");
    }
    let plain = shape(&of("llama", json!({"mlp_bias": false, "pad_token_id": null})));
    for (key, value) in [("mlp_bias", json!(null)), ("pad_token_id", json!(-1)), ("attention_bias", json!(null))] {
        assert_eq!(shape(&of("llama", json!({key: value}))), plain, "{key}");
    }
}

#[test]
fn targets_are_a_list_a_pattern_or_pefts_default() {
    let paths = |config: &Value, targets: Option<Targets>| -> Result<Vec<String>, LayoutError> {
        let layout = AdapterLayout::new(&shape(config), &lora(targets), Task::CausalLm)?;
        Ok(layout.modules().iter().map(|m| m.path.clone()).collect())
    };
    let qv: Vec<String> =
        (0..2).flat_map(|i| ["q_proj", "v_proj"].map(|name| format!("model.layers.{i}.self_attn.{name}"))).collect();
    let pattern = |text: &str| Some(Targets::Pattern(text.to_owned()));
    assert_eq!(paths(&llama(), None).unwrap(), qv);
    assert_eq!(paths(&llama(), pattern(r".*\.(q|v)_proj")).unwrap(), qv);
    assert_eq!(paths(&llama(), pattern(r"model\.layers\.1\..*down_proj")).unwrap(), ["model.layers.1.mlp.down_proj"]);
    assert_eq!(paths(&gpt2(), None).unwrap(), ["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"]);
    assert_eq!(paths(&gpt2(), Some(Targets::names(&["c_proj"]))).unwrap().len(), 4);
    // a pattern must match the whole path, as re.fullmatch does
    for text in ["q_proj", "(q_proj", r"(?=model).*q_proj"] {
        let error = paths(&llama(), pattern(text)).unwrap_err().to_string();
        assert!(error.contains("lora.target_modules"), "{error}");
    }
    let head = AdapterLayout::new(&shape(&llama()), &lora(pattern(".*")), Task::classify(3)).unwrap_err();
    assert_eq!(head, LayoutError::InHead { layer: "score" });

    let written: LoraConfig = serde_json::from_value(
        json!({"method": "ffa-lora", "r": 2, "lora_alpha": 4, "seed": 1, "target_modules": ".*"}),
    )
    .unwrap();
    assert_eq!(written.target_modules, pattern(".*"));
    assert_eq!(serde_json::to_value(&written).unwrap()["target_modules"], json!(".*"));
}

#[test]
fn tasks_fit_their_families() {
    let bert = json!({
        "model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 9,
        "num_attention_heads": 2, "max_position_embeddings": 16});
    let error = AdapterLayout::new(&shape(&bert), &lora(None), Task::CausalLm).unwrap_err().to_string();
    assert!(error.contains("model.task") && error.contains("llama, mistral, qwen2, gpt2"), "{error}");
    let trained = LoraConfig { head: Head::Trained, ..lora(None) };
    let error = AdapterLayout::new(&shape(&llama()), &trained, Task::CausalLm).unwrap_err().to_string();
    assert!(error.contains("lora.head"), "{error}");

    let layout = |task| AdapterLayout::new(&shape(&llama()), &lora(None), task).unwrap();
    assert_eq!((layout(Task::CausalLm).head_len(), layout(Task::classify(3)).head_len()), (0, 3 * 32));
    assert_ne!(layout(Task::CausalLm).hash(), layout(Task::classify(3)).hash());
}

#[test]
fn an_adapter_round_trips_in_each_task() {
    for config in [llama(), of("mistral", json!({})), of("qwen2", json!({})), gpt2()] {
        for (task, labels, head) in [
            (Task::CausalLm, 0, Head::Frozen),
            (Task::classify(3), 3, Head::Frozen),
            (Task::classify(3), 3, Head::Trained),
        ] {
            let shape = shape(&config);
            let layout = AdapterLayout::new(&shape, &LoraConfig { head, ..lora(None) }, task).unwrap();
            let values: Vec<f32> = (0..layout.len()).map(|i| (i as f32).sin()).collect();
            let labels: Vec<String> = (0..labels).map(|i| format!("label {i}")).collect();
            let meta = PeftMeta { base_model_name_or_path: "base".to_owned(), labels, provenance: None };
            let (a, head) = (init_a(&layout), init_head(&layout));
            let dir = tempfile::tempdir().unwrap();
            peft::save(dir.path(), &layout, &a, &head, Adapter::of(&values), &meta).unwrap();
            let loaded = peft::load(dir.path(), &shape).unwrap();
            assert_eq!((&loaded.layout, &loaded.a, &loaded.values, &loaded.meta), (&layout, &a, &values, &meta));

            let text = std::fs::read_to_string(dir.path().join("adapter_config.json")).unwrap();
            let config: Value = serde_json::from_str(&text).unwrap();
            let causal = task == Task::CausalLm;
            assert_eq!(config["task_type"], if causal { "CAUSAL_LM" } else { "SEQ_CLS" });
            assert_eq!(config["modules_to_save"], if causal { json!(null) } else { json!(["score"]) });
            assert_eq!(config["fan_in_fan_out"], shape.family == Family::Gpt2);
        }
    }
}
