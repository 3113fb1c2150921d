//! Looks for plaintext: windows of a silo's update, in each form that it could have, in memory, files and captures.
//!
//! Contract: a marker is found wherever its bytes lie, at any alignment. Memory is read from `/proc/<pid>/mem` over every
//! readable mapping while the process lives, in overlapping pieces.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use blindsum_crypto::packing;
use blindsum_protocol::plan::{Plan, RoundKind};

use crate::engine::grid_points;

/// Bytes of one window.
const WINDOW: usize = 32;
/// Windows taken of each form of a vector, spread over its length.
const WINDOWS: usize = 12;
/// Bytes of memory read at a time.
const PIECE: usize = 4 << 20;

/// Bytes to look for, and what they are.
#[derive(Debug, Clone)]
struct Marker {
    what: String,
    bytes: Vec<u8>,
}

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct Scanner {
    markers: Vec<Marker>,
    /// Whether any marker begins with these two bytes: rules out nearly everything at once.
    begins: Vec<bool>,
    by_head: HashMap<[u8; 8], Vec<usize>>,
}

impl Scanner {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { begins: vec![false; 1 << 16], ..Self::default() }
    }

    /// Adds an update (or a sum of such) in every form: f32 and f64 values, lanes of 32 bits (reduced to the ring, and
    /// with their sign), and packed to ring bits as a masked input is.
    pub fn add_vector(&mut self, what: &str, plan: &Plan, values: &[f32], grid: &[i64]) {
        let params = plan.params(RoundKind::TrainB);
        let (segment, range) = params.ranges().next().unwrap();
        assert_eq!(range.len(), grid.len(), "one segment of values, then the metrics");
        let mut lanes: Vec<u32> = grid.iter().map(|&x| x as u32).collect();
        let signed: Vec<u8> = lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect();
        lanes.iter_mut().for_each(|lane| *lane &= segment.ring_mask());
        let reduced: Vec<u8> = lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect();
        lanes.resize(params.lanes(), 0);
        let packed = packing::pack(params, &lanes).unwrap();
        self.add(&format!("{what}, f32"), &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
        self.add(&format!("{what}, f64"), &values.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect::<Vec<_>>());
        self.add(&format!("{what}, i32"), &signed);
        self.add(&format!("{what}, u32 lanes"), &reduced);
        self.add(&format!("{what}, packed"), &packed[..segment.packed_bytes()]);
    }

    /// [`Scanner::add_vector`] for a silo's update.
    pub fn add_update(&mut self, what: &str, plan: &Plan, update: &[f32]) {
        self.add_vector(what, plan, update, &grid_points(update));
    }

    /// Adds windows of `bytes`.
    fn add(&mut self, what: &str, bytes: &[u8]) {
        let last = bytes.len() - WINDOW;
        for i in 0..WINDOWS {
            let start = last * i / (WINDOWS - 1);
            let window = &bytes[start..start + WINDOW];
            let different: BTreeSet<&u8> = window.iter().collect();
            assert!(different.len() >= 8, "{what}: a window that says so little could be anywhere");
            let head: [u8; 8] = std::array::from_fn(|i| window[i]);
            self.begins[usize::from(u16::from_le_bytes([head[0], head[1]]))] = true;
            self.by_head.entry(head).or_default().push(self.markers.len());
            self.markers.push(Marker { what: what.into(), bytes: window.into() });
        }
    }

    /// What of it lies in `bytes`.
    pub fn find(&self, bytes: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for at in 0..bytes.len().saturating_sub(WINDOW - 1) {
            if !self.begins[usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))] {
                continue;
            }
            let head: [u8; 8] = std::array::from_fn(|i| bytes[at + i]);
            for &marker in self.by_head.get(&head).into_iter().flatten() {
                let Marker { what, bytes: wanted } = &self.markers[marker];
                if bytes[at..at + WINDOW] == wanted[..] && !found.contains(what) {
                    found.insert(what.clone());
                }
            }
        }
        found
    }

    /// What of it lies in the memory of a living process. Also returns how many bytes were read.
    ///
    /// # Panics
    /// If the system does not let us read another process of ours.
    pub fn memory(&self, pid: u32) -> (BTreeSet<String>, u64) {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let path = format!("/proc/{pid}/mem");
        let memory = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}; this test must read its own processes"));
        let (mut found, mut read) = (BTreeSet::new(), 0);
        let mut piece = vec![0; PIECE + WINDOW];
        for line in maps.lines() {
            let mut fields = line.split_whitespace();
            let (range, access) = (fields.next().unwrap(), fields.next().unwrap());
            if !access.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
            let (mut at, end) = (hex(start), hex(end));
            while at < end {
                let length = usize::try_from(end - at).unwrap().min(piece.len());
                // A mapping may be gone meanwhile, or be none of memory.
                let Ok(length) = memory.read_at(&mut piece[..length], at) else { break };
                if length == 0 {
                    break;
                }
                found.extend(self.find(&piece[..length]));
                read += length as u64;
                // Overlap, so that no window falls between two pieces.
                at += if length == piece.len() { PIECE as u64 } else { length as u64 };
            }
        }
        (found, read)
    }

    /// What of it lies in the files below `dir`. Also returns how many bytes were read.
    pub fn files(&self, dir: &Path) -> (BTreeSet<String>, u64) {
        let (mut found, mut read) = (BTreeSet::new(), 0);
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                let (more, bytes) = self.files(&path);
                found.extend(more);
                read += bytes;
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.extend(self.find(&bytes));
                read += bytes.len() as u64;
            }
        }
        (found, read)
    }
}
