//! In which line a byte of a file stands, for a reader that runs ahead of what it is asked about.
//!
//! Contract: `\n`, `\r\n` and a lone `\r` each end a line; lines count from 1. What lies before the last byte that was
//! asked about is forgotten, so memory is bounded by what the reader holds.

use std::collections::VecDeque;

/// The line breaks that were read and not yet passed.
#[derive(Default)]
pub(super) struct Lines {
    /// Where each `\r` and `\n` stands.
    breaks: VecDeque<(u64, u8)>,
    /// Bytes read.
    read: u64,
    /// Lines ended before the first of `breaks`.
    ended: u64,
    /// One beyond the last `\r` that was passed.
    after_return: u64,
}

impl Lines {
    /// Takes note of the next bytes of the file.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        let breaks = bytes.iter().enumerate().filter(|(_, byte)| matches!(byte, b'\r' | b'\n'));
        self.breaks.extend(breaks.map(|(at, &byte)| (self.read + at as u64, byte)));
        self.read += bytes.len() as u64;
    }

    /// The line of the first byte from `start` on that ends no line; `start` never goes back.
    pub(super) fn at(&mut self, start: u64) -> u64 {
        let mut start = start;
        while let Some(&(at, byte)) = self.breaks.front().filter(|(at, _)| *at <= start) {
            self.breaks.pop_front();
            self.ended += u64::from(byte == b'\r' || self.after_return != at || at == 0);
            if byte == b'\r' {
                self.after_return = at + 1;
            }
            start = start.max(at + 1);
        }
        self.ended + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_end_a_line_counts_once() {
        for (text, places) in [
            ("a\nb\n\nc", vec![(0, 1), (1, 2), (2, 2), (4, 4)]),
            ("a\r\nb\r\n\r\nc", vec![(0, 1), (2, 2), (3, 2), (5, 4)]),
            ("\r\n\na\rb", vec![(0, 3), (4, 4)]),
            ("\n\na", vec![(0, 3)]),
        ] {
            for piece in 1..=text.len() {
                let mut lines = Lines::default();
                text.as_bytes().chunks(piece).for_each(|bytes| lines.note(bytes));
                for &(start, line) in &places {
                    assert_eq!(lines.at(start), line, "{text:?} from {start}");
                }
            }
        }
    }
}
