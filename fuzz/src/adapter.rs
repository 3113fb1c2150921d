//! The files of a base model and of an adapter: `config.json`, and the three that PEFT loads.

use std::path::PathBuf;
use std::sync::OnceLock;

use blindsum_adapter::{
    Adapter, AdapterLayout, BaseShape, LoraConfig, RoundKind, Task, init_a, init_head, initial_values, peft,
};

use crate::input::Input;
use crate::world::World;

/// The `config.json` of a small BERT.
pub const CONFIG: &str = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
"intermediate_size": 16, "vocab_size": 32, "max_position_embeddings": 64, "type_vocab_size": 2,
"hidden_act": "gelu", "layer_norm_eps": 1e-12, "initializer_range": 0.02, "pad_token_id": 0}"#;
/// The files of an adapter, in the order of the target's selector.
pub const FILES: [&str; 3] = ["blindsum.json", "adapter_config.json", "adapter_model.safetensors"];

/// The shape that [`CONFIG`] describes.
pub fn shape() -> &'static BaseShape {
    static SHAPE: OnceLock<BaseShape> = OnceLock::new();
    SHAPE.get_or_init(|| BaseShape::from_config_json(CONFIG).unwrap())
}

/// What [`peft::save`] writes for the fixed job.
pub fn saved() -> &'static [Vec<u8>; 3] {
    static SAVED: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
    SAVED.get_or_init(|| {
        let dir = folder().join("good");
        let layout = World::get(false).plan().layout();
        let labels = World::get(false).plan().job().model.labels.clone();
        let meta = peft::PeftMeta { base_model_name_or_path: "base".into(), labels, provenance: None };
        peft::save(&dir, layout, &init_a(layout), &init_head(layout), Adapter::of(&initial_values(layout)), &meta)
            .unwrap();
        FILES.map(|name| std::fs::read(dir.join(name)).unwrap())
    })
}

/// A folder of this process, in memory where the machine has such a place.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let shared = PathBuf::from("/dev/shm");
        let parent = if shared.is_dir() { shared } else { std::env::temp_dir() };
        let folder = parent.join(format!("blindsum-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

/// One file of the four is the input; the others are sound.
pub fn files(bytes: &[u8]) {
    let mut input = Input(bytes);
    let which = usize::from(input.byte() % 4);
    let bytes = input.rest();
    let Some(name) = FILES.get(which) else {
        return config(bytes);
    };
    let dir = folder();
    for (i, (file, good)) in FILES.iter().zip(saved()).enumerate() {
        let path = dir.join(file);
        if i == which {
            std::fs::write(&path, bytes).unwrap();
        } else if std::fs::metadata(&path).map_or(true, |m| m.len() != good.len() as u64) {
            std::fs::write(&path, good).unwrap();
        }
    }
    let loaded = peft::load(dir, shape());
    // the next input finds a sound file again
    std::fs::write(dir.join(name), &saved()[which]).unwrap();
    let Ok(loaded) = loaded else { return };
    assert!(loaded.adapter().generations(&loaded.layout).is_some());
    assert!(loaded.values.iter().chain(&loaded.folded).chain(loaded.a.iter().flatten()).all(|x| x.is_finite()));
    let again = dir.join("again");
    peft::save(&again, &loaded.layout, &loaded.a, &loaded.head, loaded.adapter(), &loaded.meta).unwrap();
    assert_eq!(peft::load(&again, shape()).unwrap(), loaded, "saved and loaded again");
}

fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(shape) = BaseShape::from_config_json(text) else { return };
    assert_eq!(shape.head_width() * shape.heads, shape.hidden);
    let lora: &LoraConfig = &World::get(false).plan().job().lora;
    if let Ok(layout) = AdapterLayout::new(&shape, lora, Task::classify(2)) {
        assert_eq!(layout.segments(RoundKind::TrainB).iter().map(|(_, length)| length).sum::<usize>(), layout.len());
    }
}
