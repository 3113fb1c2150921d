//! CSV and TSV with a first line that names the columns.

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use csv::{ErrorKind, ReaderBuilder, StringRecord};

use super::lines::Lines;
use super::{DataError, EachRow, MAX_ROW_BYTES};

/// Bytes that the csv reader may hold beyond the row it parses.
const BUFFER: usize = 1 << 16;

/// Calls `take` for each row below the first line.
pub(super) fn each(
    path: &Path,
    source: impl Read,
    delimiter: u8,
    text: &str,
    beside: Option<&str>,
    take: &mut EachRow,
) -> Result<(), DataError> {
    let budget = Rc::new(Cell::new(0));
    let lines = Rc::new(RefCell::new(Lines::default()));
    let source = Bounded { source, budget: Rc::clone(&budget), lines: Rc::clone(&lines) };
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(delimiter == b',')
        .buffer_capacity(BUFFER)
        .has_headers(false)
        .from_reader(source);
    let mut record = StringRecord::new();
    let mut next = |record: &mut StringRecord| {
        budget.set(MAX_ROW_BYTES + BUFFER as u64);
        let start = reader.position().byte();
        let more = reader.read_record(record);
        // the reader's own count is one behind where a line ends with \r\n, and stays at blank lines before a row
        let line = lines.borrow_mut().at(start);
        let more = more.map_err(|e| explain(path, line, &e))?;
        Ok::<_, DataError>(more.then_some(line))
    };
    let Some(first) = next(&mut record)? else { return Ok(()) };
    let header: Vec<String> = record.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    let column = |wanted: &str| {
        let mut at = header.iter().enumerate().filter(|(_, name)| *name == wanted).map(|(i, _)| i);
        match (at.next(), at.next()) {
            (Some(i), None) => Ok(i),
            (None, _) => Err(DataError::column(path, first, wanted, 0)),
            (Some(_), Some(_)) => Err(DataError::column(path, first, wanted, 2)),
        }
    };
    let text = column(text)?;
    let beside = beside.map(column).transpose()?;
    while let Some(line) = next(&mut record)? {
        let field = |i: usize| record.get(i).unwrap_or_default();
        take(line, field(text), beside.map(field))?;
    }
    Ok(())
}

/// Our words for what the parser found; its own may quote the row.
fn explain(path: &Path, line: u64, error: &csv::Error) -> DataError {
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            DataError::row(path, line, format!("the row has {len} fields, the first line {expected_len}"))
        }
        ErrorKind::Utf8 { .. } => DataError::not_utf8(path, line),
        ErrorKind::Io(e) if e.kind() == std::io::ErrorKind::FileTooLarge => DataError::too_long(path, line),
        ErrorKind::Io(e) => DataError::file(path, e),
        _ => DataError::row(path, line, "the row cannot be read as CSV"),
    }
}

/// A reader that gives out `budget` bytes and then an error, so that a row without an end is not collected whole.
struct Bounded<R> {
    source: R,
    budget: Rc<Cell<u64>>,
    lines: Rc<RefCell<Lines>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.budget.get() == 0 {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let count = self.source.read(buffer)?;
        self.lines.borrow_mut().note(&buffer[..count]);
        self.budget.set(self.budget.get().saturating_sub(count as u64));
        Ok(count)
    }
}
