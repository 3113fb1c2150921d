//! An allocator that counts what one part of the program holds.
//!
//! Each block carries a tag in the eight bytes before it: whether it was allocated while [`COUNTING`] was on. Freeing
//! looks at the tag, so that a message made by the coordinator counts as the coordinator's until the silo drops it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Whether allocations count at the moment; the benchmark's own thread alone switches it.
pub static COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

/// Runs `part` with its allocations counted.
pub fn counted<T>(part: impl FnOnce() -> T) -> T {
    COUNTING.store(true, Relaxed);
    let result = part();
    COUNTING.store(false, Relaxed);
    result
}

/// Bytes that the counted part holds.
pub fn live() -> u64 {
    LIVE.load(Relaxed)
}

/// The most it ever held since [`reset`].
pub fn peak() -> u64 {
    PEAK.load(Relaxed)
}

/// Starts the peak afresh.
pub fn reset() {
    PEAK.store(live(), Relaxed);
}

struct Tagging;

#[global_allocator]
static ALLOCATOR: Tagging = Tagging;

/// Room for the tag that keeps the block aligned.
fn room(layout: Layout) -> usize {
    layout.align().max(16)
}

// SAFETY: every block comes from the system's allocator with `room` more bytes in front, a multiple of its alignment, so
// that the address handed out is aligned and the tag's eight bytes before it belong to the same block; `dealloc` gets the
// layout of `alloc` and therefore computes the same block. The default `realloc` goes through both.
unsafe impl GlobalAlloc for Tagging {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let room = room(layout);
        let Some(whole) = layout.size().checked_add(room) else { return std::ptr::null_mut() };
        let Ok(whole) = Layout::from_size_align(whole, room) else { return std::ptr::null_mut() };
        // SAFETY: `whole` has a size above zero.
        let block = unsafe { System.alloc(whole) };
        if block.is_null() {
            return block;
        }
        let counts = COUNTING.load(Relaxed);
        if counts {
            let live = LIVE.fetch_add(layout.size() as u64, Relaxed) + layout.size() as u64;
            PEAK.fetch_max(live, Relaxed);
        }
        // SAFETY: the block is `room` ≥ 16 bytes longer than what is handed out.
        unsafe {
            block.add(room - 8).cast::<u64>().write(u64::from(counts));
            block.add(room)
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let room = room(layout);
        // SAFETY: `pointer` came from `alloc` with this layout, so the tag and the block lie where it put them.
        unsafe {
            if pointer.sub(8).cast::<u64>().read() == 1 {
                LIVE.fetch_sub(layout.size() as u64, Relaxed);
            }
            System.dealloc(pointer.sub(room), Layout::from_size_align_unchecked(layout.size() + room, room));
        }
    }
}
