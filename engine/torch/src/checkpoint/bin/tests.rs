//! A file that torch itself wrote, and what is refused.
//!
//! `engine/torch/tests/golden/state-dict.bin` is from torch 2.11.0:
//!
//! ```python
//! layer = torch.nn.Linear(3, 2)  # weight 0 … 5, bias -1, 0.5
//! state = layer.state_dict()
//! state["half"], state["bfloat"] = torch.arange(4, dtype=torch.float16), torch.arange(4, dtype=torch.bfloat16)
//! state["double"], state["ids"] = torch.arange(2, dtype=torch.float64), torch.arange(5)
//! state["turned"], state["part"] = state["weight"].t(), state["weight"][1, 1:]
//! state["parameter"], state["scalar"] = torch.nn.Parameter(torch.tensor([7.])), torch.tensor(3.)
//! torch.save(state, "state-dict.bin")
//! ```
#![allow(clippy::unwrap_used)]

use std::io::Write;

use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::FileOptions;

use super::*;
use crate::values;

const FILE: &[u8] = include_bytes!("../../../tests/golden/state-dict.bin");

fn numbers(table: &Table, name: &str) -> Vec<f32> {
    let Format::Float(kind) = table[name].format else { panic!("{name} is no float") };
    values(&table[name].copy(kind).unwrap()).unwrap()
}

#[test]
fn what_torch_wrote_is_read() {
    let table = table(Path::new("x.bin"), FILE).unwrap();
    assert_eq!(table.len(), 10);
    assert_eq!(numbers(&table, "weight"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(table["weight"].shape, [2, 3]);
    assert_eq!(numbers(&table, "bias"), [-1.0, 0.5]);
    for name in ["half", "bfloat"] {
        assert_eq!(numbers(&table, name), [0.0, 1.0, 2.0, 3.0]);
    }
    assert_eq!(numbers(&table, "double"), [0.0, 1.0]);
    assert_eq!(numbers(&table, "turned"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(table["turned"].shape, [3, 2]);
    assert_eq!(numbers(&table, "part"), [4.0, 5.0]);
    assert_eq!(numbers(&table, "parameter"), [7.0]);
    assert_eq!((numbers(&table, "scalar"), table["scalar"].shape.len()), (vec![3.0], 0));
    assert_eq!(table["ids"].format, Format::Other("LongStorage".to_owned()));
}

/// An archive of these members.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = FileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in members {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// One dictionary entry "w": a tensor of this shape and stride at this offset of a storage of four f32.
fn pickle(offset: u8, shape: u8, stride: u8) -> Vec<u8> {
    let mut p = b"\x80\x02}X\x01\0\0\0w".to_vec();
    p.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n");
    p.extend(b"X\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ");
    p.extend([b'K', offset, b'K', shape, 0x85, b'K', stride, 0x85]);
    p.extend(b"\x89}tRs.");
    p
}

fn refused(bytes: &[u8]) -> String {
    let error = table(Path::new("x.bin"), bytes).unwrap_err();
    assert!(error.contains("save_file"), "{error}");
    error
}

#[test]
fn tensors_stay_inside_their_storage() {
    let file = |p: &[u8]| archive(&[("m/data.pkl", p), ("m/data/0", &[0; 16])]);
    for (offset, shape, stride) in [(0, 4, 1), (3, 1, 1), (0, 2, 3), (0, 9, 0), (4, 0, 1)] {
        let bytes = file(&pickle(offset, shape, stride));
        let table = table(Path::new("x.bin"), &bytes).unwrap();
        assert_eq!(numbers(&table, "w").len(), usize::from(shape));
    }
    for (offset, shape, stride) in [(0, 5, 1), (4, 1, 1), (1, 4, 1), (0, 2, 4), (5, 0, 1)] {
        assert!(refused(&file(&pickle(offset, shape, stride))).contains("\"w\": it reaches beyond its storage"));
    }
    let short = archive(&[("m/data.pkl", &pickle(0, 4, 1)), ("m/data/0", &[0; 15])]);
    assert!(refused(&short).contains("beyond its storage"));
}

#[test]
fn what_is_no_plain_state_dict_is_refused() {
    let good = pickle(0, 4, 1);
    let with = |p: &[u8]| refused(&archive(&[("m/data.pkl", p), ("m/data/0", &[0; 16])]));
    assert!(refused(b"\x80\x02").contains("torch 1.6"));
    assert!(refused(&archive(&[("x", &[])])).contains("no data.pkl"));
    assert!(refused(&archive(&[("m/data.pkl", &good), ("n/data.pkl", &good)])).contains("several"));
    assert!(refused(&archive(&[("m/data.pkl", &good)])).contains("m/data/0"));
    let big = archive(&[("m/data.pkl", &good), ("m/data/0", &[0; 16]), ("m/byteorder", b"big")]);
    assert!(refused(&big).contains("big-endian"));
    // a program that would run a command, were it a pickle to Python
    assert!(with(b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R.").contains("posix.system"));
    assert!(with(b"\x80\x02cbuiltins\neval\nX\x01\0\0\x001\x85R.").contains("builtins.eval"));
    assert!(with(b"\x80\x04.").contains("version 4"));
    assert!(with(b"\x80\x02K\x01.").contains("no dictionary"));
    assert!(with(b"\x80\x02}X\x01\0\0\0eK\x01s.").contains("\"e\" is not a tensor"));
    assert!(with(b"\x80\x02}K\x01K\x01s.").contains("not text"));
    assert!(with(b"\x80\x02i").contains("0x69"));
    assert!(with(&good[..good.len() - 1]).contains("ends early"));
    let twice = [&good[..good.len() - 1], &good[3..]].concat();
    assert!(with(&twice).contains("stands twice"), "{}", with(&twice));
}

proptest! {
    #[test]
    fn a_damaged_file_is_refused_or_read(at in 0..FILE.len(), bytes in prop::collection::vec(any::<u8>(), 1..4)) {
        let mut file = FILE.to_vec();
        let end = (at + bytes.len()).min(file.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
        if let Ok(table) = table(Path::new("x.bin"), &file) {
            for stored in table.values() {
                let numbers = stored.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
                if let (Format::Float(kind), Some(0..10_000)) = (&stored.format, numbers) {
                    prop_assert!(stored.copy(*kind).is_ok());
                }
            }
        }
    }

    #[test]
    fn any_pickle_ends(pickle in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = pickle::state_dict(&pickle);
    }
}
