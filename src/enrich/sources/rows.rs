//! Rows of a CSV file by named columns: any order of columns, comment lines with `#`, quotes as RFC 4180.

use std::path::Path;

use super::{ERRORS_MAX, Reading, SourceError, changed_ms, read_file};

/// A column of a file.
pub(super) struct Spec {
    pub name: &'static str,
    pub required: bool,
}

/// A column that every row fills.
pub(super) const fn required(name: &'static str) -> Spec {
    Spec { name, required: true }
}

/// A column that may be missing or empty.
pub(super) const fn optional(name: &'static str) -> Spec {
    Spec { name, required: false }
}

/// One row, its fields in the order of the specs, trimmed; a missing column is empty.
pub(super) struct Row<'a> {
    fields: &'a [&'a str],
    specs: &'static [Spec],
}

/// What is wrong with a row: the column and why.
pub(super) type RowError = (Option<&'static str>, String);

impl Row<'_> {
    /// The field of a column by its place in the specs.
    pub fn text(&self, column: usize) -> &str {
        self.fields[column]
    }

    /// The parsed field of a column; `None` when it is empty.
    pub fn parse<T>(
        &self,
        column: usize,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, RowError> {
        let text = self.fields[column];
        if text.is_empty() {
            return Ok(None);
        }
        let error = || (Some(self.specs[column].name), format!("\"{text}\" is not {allowed}"));
        parse(text).map(Some).ok_or_else(error)
    }

    /// An error about a column.
    pub fn error(&self, column: usize, problem: impl std::fmt::Display) -> RowError {
        (Some(self.specs[column].name), problem.to_string())
    }
}

/// Reads a file, gives each row to `take`, notes errors and the file.
pub(super) fn read_rows<'n>(
    reading: &mut Reading<'n>,
    kind: &'static str,
    file: &Path,
    specs: &'static [Spec],
    mut take: impl FnMut(&mut Reading<'n>, &Row<'_>, u64) -> Result<(), RowError>,
) {
    match read_table(file, specs, |row, line| take(reading, row, line)) {
        Ok(rows) => reading.done(kind, file, rows, changed_ms(file)),
        Err(errors) => reading.errors.extend(errors),
    }
}

/// Reads a file of its own, gives each row to `take`. Gives the number of rows.
///
/// # Errors
/// Everything that is wrong.
pub(super) fn read_table(
    file: &Path,
    specs: &'static [Spec],
    take: impl FnMut(&Row<'_>, u64) -> Result<(), RowError>,
) -> Result<usize, Vec<SourceError>> {
    let bytes = read_file(file).map_err(|error| vec![error])?;
    each_row(file, &bytes, specs, take)
}

fn each_row(
    file: &Path,
    bytes: &[u8],
    specs: &'static [Spec],
    mut take: impl FnMut(&Row<'_>, u64) -> Result<(), RowError>,
) -> Result<usize, Vec<SourceError>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(bytes);
    let header = reader.headers().map_err(|error| vec![csv_error(file, &error)])?;
    let places = places(header, specs).map_err(|(column, problem)| {
        vec![SourceError { file: file.into(), line: header.position().map(csv::Position::line), column, problem }]
    })?;
    let (mut rows, mut errors, mut record) = (0, Vec::new(), csv::StringRecord::new());
    while errors.len() < ERRORS_MAX {
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                errors.push(csv_error(file, &error));
                continue;
            }
        }
        let line = record.position().map_or(0, csv::Position::line);
        let fields: Vec<&str> = places.iter().map(|place| place.and_then(|at| record.get(at)).unwrap_or("")).collect();
        let row = Row { fields: &fields, specs };
        let missing = specs.iter().zip(&fields).find(|(spec, field)| spec.required && field.is_empty());
        let taken = match missing {
            Some((spec, _)) => Err((Some(spec.name), "is empty".to_owned())),
            None => take(&row, line),
        };
        match taken {
            Ok(()) => rows += 1,
            Err((column, problem)) => {
                errors.push(SourceError { file: file.into(), line: Some(line), column, problem });
            }
        }
    }
    if errors.is_empty() { Ok(rows) } else { Err(errors) }
}

/// Where each spec's column is in the file.
fn places(header: &csv::StringRecord, specs: &'static [Spec]) -> Result<Vec<Option<usize>>, RowError> {
    let known = || specs.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = header.iter().find(|name| specs.iter().all(|spec| spec.name != *name)) {
        return Err((None, format!("unknown column \"{}\"; known are {}", name.escape_debug(), known())));
    }
    let mut places = Vec::with_capacity(specs.len());
    for spec in specs {
        let mut found = header.iter().enumerate().filter(|(_, name)| *name == spec.name).map(|(at, _)| at);
        let place = found.next();
        if found.next().is_some() {
            return Err((Some(spec.name), "stands twice in the line of column names".to_owned()));
        }
        if place.is_none() && spec.required {
            return Err((Some(spec.name), format!("is missing; the first line names the columns: {}", known())));
        }
        places.push(place);
    }
    Ok(places)
}

fn csv_error(file: &Path, error: &csv::Error) -> SourceError {
    let line = error.position().map(csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} fields instead of {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    SourceError { file: file.into(), line, column: None, problem }
}
