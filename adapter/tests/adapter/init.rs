//! What the seed gives: properties of A and the head, and frozen vectors for the demo's model.

use blindsum_adapter::{
    AdapterLayout, BaseHashes, BaseShape, Head, Init, LoraConfig, Method, Targets, Task, a_hash, init_a, init_head,
    initial_values, model_hash,
};

/// The shape of all-MiniLM-L6-v2.
fn minilm(init: Init, seed: u64, head: Head) -> AdapterLayout {
    let text = r#"{"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536,
        "num_attention_heads": 12, "vocab_size": 30522, "max_position_embeddings": 512}"#;
    let target_modules = Some(Targets::names(&["query", "value"]));
    let lora = LoraConfig {
        method: Method::FfaLora,
        r: 8,
        lora_alpha: 16.0,
        target_modules,
        init,
        seed,
        head,
        refresh_rounds: None,
    };
    AdapterLayout::new(&BaseShape::from_config_json(text).unwrap(), &lora, Task::classify(2)).unwrap()
}

#[test]
fn kaiming_uniform_fills_its_interval_and_no_more() {
    let a = init_a(&minilm(Init::KaimingUniform, 42, Head::Frozen));
    assert_eq!(a.len(), 12);
    let bound = 1.0 / 384f64.sqrt();
    for matrix in &a {
        assert_eq!(matrix.len(), 8 * 384);
        let n = matrix.len() as f64;
        let mean = matrix.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let square = matrix.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / n;
        // Standard errors over 3072 draws: mean bound/√(3n), square bound²·√(4/45)/√n; five of each.
        assert!(mean.abs() < 5.0 * bound / (3.0 * n).sqrt(), "mean {mean}");
        assert!((square / (bound * bound) - 1.0 / 3.0).abs() < 5.0 * (4.0 / 45.0 / n).sqrt(), "square {square}");
        assert!(matrix.iter().all(|&x| f64::from(x).abs() <= bound));
    }
}

#[test]
fn orthonormal_rows_are_orthonormal() {
    for matrix in init_a(&minilm(Init::Orthonormal, 42, Head::Frozen)) {
        for (i, x) in matrix.chunks_exact(384).enumerate() {
            for (j, y) in matrix.chunks_exact(384).enumerate() {
                let product: f64 = x.iter().zip(y).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((product - expected).abs() < 1e-7, "rows {i} and {j}: {product}");
            }
        }
    }
}

#[test]
fn modules_and_seeds_have_streams_of_their_own() {
    for init in [Init::KaimingUniform, Init::Orthonormal] {
        let a = init_a(&minilm(init, 42, Head::Frozen));
        for (i, matrix) in a.iter().enumerate() {
            assert!(a[..i].iter().all(|other| other[0] != matrix[0]));
        }
        assert_ne!(a_hash(&a), a_hash(&init_a(&minilm(init, 43, Head::Frozen))));
    }
}

#[test]
fn b_starts_at_zero_and_the_head_as_bert_initialises_it() {
    let layout = minilm(Init::KaimingUniform, 42, Head::Trained);
    let (weight, bias) = init_head(&layout);
    assert_eq!((weight.len(), bias), (2 * 384, vec![0.0; 2]));
    let n = weight.len() as f64;
    let mean = weight.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let deviation = (weight.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n).sqrt();
    assert!(mean.abs() < 5.0 * 0.02 / n.sqrt(), "mean {mean}");
    assert!((deviation / 0.02 - 1.0).abs() < 5.0 / (2.0 * n).sqrt(), "deviation {deviation}");

    let values = initial_values(&layout);
    let head = layout.head_ranges().unwrap();
    assert!(values[..layout.b_len()].iter().all(|&b| b == 0.0));
    assert_eq!(values[head.weight], weight);
    assert_eq!(values[head.bias], [0.0; 2]);
}

/// Bit-equality on every machine and for ever: a change here is a new stream version, not a new expected value.
#[test]
fn frozen_vectors() {
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let kaiming = init_a(&minilm(Init::KaimingUniform, 42, Head::Frozen));
    assert_eq!(bits(&kaiming[0][..4]), [0xbd4a2efe, 0x3d34b3c5, 0x3d30e3a4, 0x3caebd44]);
    let expected = "0b5d4dc6061d18b25679a83fe1db1b4f27feaf7f10f97be33f34f8b7f7efd50e";
    assert_eq!(hex::encode(a_hash(&kaiming)), expected);

    let orthonormal = init_a(&minilm(Init::Orthonormal, 42, Head::Frozen));
    assert_eq!(bits(&orthonormal[11][3068..]), [0x3d9b8b1f, 0xbca855c1, 0xbbaab7ce, 0x3c673363]);
    let expected = "1fc8d9bfbf6c73f773d25636aa83ab20899a3bab15e3b429198986e22050de82";
    assert_eq!(hex::encode(a_hash(&orthonormal)), expected);

    let layout = minilm(Init::Orthonormal, 42, Head::Trained);
    let (weight, _) = init_head(&layout);
    assert_eq!(bits(&weight[..4]), [0xbc60af15, 0x3c92a4fa, 0x3ace5fe9, 0xbc542fac]);

    let expected = "bf135a2c4417f6682341c60bbf9cc1660f11f9b641a84aa2d9120d2371da6c99";
    assert_eq!(hex::encode(layout.hash()), expected);
    let base = BaseHashes { config: [1; 32], weights: [2; 32], tokenizer: [3; 32] };
    let model = model_hash(base, &layout, a_hash(&orthonormal), &initial_values(&layout));
    assert_eq!(hex::encode(model), "7a171fc0f222ae0409ba00534f70d424b42efeb248b16ddae9a9fdf2dcfd36ea");
}
