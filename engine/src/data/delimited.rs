//! CSV and TSV as spreadsheets and pandas write them (RFC 4180), with a first line that names the columns.
//!
//! ```text
//! field ─┬─ begins with a quote: ends at the closing one; "" inside is a quote, delimiters and line ends are text
//!        └─ else: ends at the delimiter or the line's end; quotes inside are themselves
//! ```
//!
//! Contract: `\n`, `\r\n` and a lone `\r` end a line, and lines count from 1, as in an editor. Where other readers guess,
//! a row is refused by its line: a quote that is never closed would swallow the rows behind it.

use std::io::{BufRead, BufReader, Chain, Cursor, Read};
use std::path::Path;

use super::{DataError, EachRow, Fields, MAX_ROW_BYTES};

/// Calls `take` for each row below the first line.
pub(super) fn each(
    path: &Path,
    source: impl Read,
    delimiter: u8,
    names: Fields<'_>,
    take: &mut EachRow,
) -> Result<(), DataError> {
    let mut table = Delimited::open(path, source, delimiter)?;
    let Some(first) = table.row()? else { return Ok(()) };
    let header: Vec<String> = table.fields.iter().map(|name| name.trim().to_owned()).collect();
    let column = |wanted: &str| {
        let mut at = header.iter().enumerate().filter(|(_, name)| *name == wanted).map(|(i, _)| i);
        match (at.next(), at.next()) {
            (Some(i), None) => Ok(i),
            (None, _) => Err(DataError::column(path, first, wanted, 0)),
            (Some(_), Some(_)) => Err(DataError::column(path, first, wanted, 2)),
        }
    };
    let text = column(names.text)?;
    let [beside, unit] = [names.beside.map(column).transpose()?, names.unit.map(column).transpose()?];
    while let Some(line) = table.row()? {
        let (found, wanted) = (table.fields.len(), header.len());
        if found != wanted {
            let what = format!("the row has {found} fields, the first line {wanted}");
            return Err(DataError::row(path, line, what));
        }
        let field = |i: usize| table.fields[i].as_str();
        take(line, Fields { text: field(text), beside: beside.map(field), unit: unit.map(field) })?;
    }
    Ok(())
}

/// A table, read row by row.
struct Delimited<'a, R> {
    path: &'a Path,
    source: BufReader<Chain<Cursor<Vec<u8>>, R>>,
    delimiter: u8,
    /// The line of the next byte.
    line: u64,
    /// Whether the last byte was a `\r`.
    after_return: bool,
    /// The line in which the row begins.
    begins: u64,
    /// Bytes that the row may still have.
    left: u64,
    /// Of the last row.
    fields: Vec<String>,
}

impl<'a, R: Read> Delimited<'a, R> {
    fn open(path: &'a Path, mut source: R, delimiter: u8) -> Result<Self, DataError> {
        let mut start = Vec::new();
        (&mut source).take(3).read_to_end(&mut start).map_err(|e| DataError::file(path, &e))?;
        if start == "\u{feff}".as_bytes() {
            start.clear();
        }
        let source = BufReader::with_capacity(1 << 16, Cursor::new(start).chain(source));
        let fields = Vec::new();
        Ok(Delimited { path, source, delimiter, line: 1, after_return: false, begins: 1, left: MAX_ROW_BYTES, fields })
    }

    /// Reads the next row that is not blank into `fields`; its first line, or `None` at the end of the file.
    fn row(&mut self) -> Result<Option<u64>, DataError> {
        self.fields.clear();
        while let Some(b'\n' | b'\r') = self.peek()? {
            self.left = MAX_ROW_BYTES;
            self.bump()?;
        }
        self.left = MAX_ROW_BYTES;
        self.begins = self.line;
        if self.peek()?.is_none() {
            return Ok(None);
        }
        loop {
            let field = if self.peek()? == Some(b'"') { self.quoted()? } else { self.plain()? };
            let field = String::from_utf8(field).map_err(|_| DataError::not_utf8(self.path, self.begins))?;
            self.fields.push(field);
            if self.bump()? != Some(self.delimiter) {
                return Ok(Some(self.begins));
            }
        }
    }

    fn plain(&mut self) -> Result<Vec<u8>, DataError> {
        let mut field = Vec::new();
        while !self.at_end_of_field()? {
            field.extend(self.bump()?);
        }
        Ok(field)
    }

    fn quoted(&mut self) -> Result<Vec<u8>, DataError> {
        let (path, begins) = (self.path, self.begins);
        let wrong = |what: &str| Err(DataError::row(path, begins, what));
        let mut field = Vec::new();
        self.bump()?;
        loop {
            match self.bump()? {
                None => return wrong("a quote that opens a field is never closed"),
                Some(b'"') if self.peek()? != Some(b'"') => break,
                Some(b'"') => field.extend(self.bump()?),
                Some(byte) => field.push(byte),
            }
        }
        if !self.at_end_of_field()? {
            let what = "a field goes on behind its closing quote; what begins with a quote must stand in quotes whole, \
                        with each quote inside doubled, as spreadsheets and pandas write it";
            return wrong(what);
        }
        Ok(field)
    }

    fn at_end_of_field(&mut self) -> Result<bool, DataError> {
        let next = self.peek()?;
        Ok(next.is_none_or(|byte| byte == self.delimiter || byte == b'\n' || byte == b'\r'))
    }

    fn peek(&mut self) -> Result<Option<u8>, DataError> {
        let ahead = self.source.fill_buf().map_err(|e| DataError::file(self.path, &e))?;
        Ok(ahead.first().copied())
    }

    fn bump(&mut self) -> Result<Option<u8>, DataError> {
        let Some(byte) = self.peek()? else { return Ok(None) };
        self.left = self.left.checked_sub(1).ok_or_else(|| DataError::too_long(self.path, self.begins))?;
        self.source.consume(1);
        self.line += u64::from(byte == b'\r' || byte == b'\n' && !self.after_return);
        self.after_return = byte == b'\r';
        Ok(Some(byte))
    }
}
