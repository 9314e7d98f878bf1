//! One tree of values from several places (the file, environment variables, flags), where each value still knows whence it
//! came.
//!
//! Invariant: spans are offsets into one imaginary text, the file followed by every overlay's literal. So a span that the
//! deserializer puts into an error leads back to a line of the file or to the name of a variable.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file, from 1.
    File {
        /// The file as it was named.
        file: String,
        /// The line, 0 for the file as a whole.
        line: usize,
    },
    /// An environment variable, from the process or an environment file.
    Env(String),
    /// A flag of the command line.
    Flag(String),
}

impl Origin {
    /// By which problems are put into order: the file's lines from the top, then everything else.
    pub fn place(&self) -> usize {
        match self {
            Self::File { line, .. } => *line,
            _ => usize::MAX,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line: 0 } => f.write_str(file),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Env(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A step from a table or list to what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of a table.
    Key(String),
    /// A place in a list.
    Index(usize),
}

/// The way from the root to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// Reads `a.b[0].c`.
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let (key, indices) = part.split_once('[').map_or((part, ""), |(key, rest)| (key, rest));
            steps.push(Step::Key(key.to_owned()));
            let numbers = indices.split(['[', ']']).filter_map(|index| index.parse().ok());
            steps.extend(numbers.map(Step::Index));
        }
        Self(steps)
    }

    /// This path and then another one, given as text.
    pub fn then(&self, text: &str) -> Self {
        Self([&self.0[..], &Self::parse(text).0].concat())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A value that is put over the file's.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Where it belongs. Tables on the way are made.
    pub path: Path,
    /// The value as a TOML literal.
    pub literal: String,
    /// Who says so.
    pub origin: Origin,
}

/// The tree.
#[derive(Clone, Debug)]
pub struct Document<'i> {
    root: DeValue<'i>,
    file: String,
    line_starts: Vec<usize>,
    file_bytes: usize,
    overlays: Vec<(Range<usize>, Origin)>,
}

impl<'i> Document<'i> {
    /// Parses a file's text. The second part holds every syntax error with its place.
    pub fn parse(file: &str, text: &'i str) -> (Self, Vec<(Range<usize>, String)>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let document = Self {
            root: DeValue::Table(table.into_inner()),
            file: file.to_owned(),
            line_starts,
            file_bytes: text.len(),
            overlays: Vec::new(),
        };
        let place = |error: &toml::de::Error| error.span().unwrap_or(text.len()..text.len());
        (document, errors.iter().map(|error| (place(error), error.message().to_owned())).collect())
    }

    /// Puts values over the ones that are there.
    ///
    /// # Errors
    /// A literal that is no TOML value, with its origin.
    pub fn overlay(mut self, overlays: &'i [Overlay]) -> Result<Self, (Origin, String)> {
        for overlay in overlays {
            let value =
                DeValue::parse(&overlay.literal).map_err(|e| (overlay.origin.clone(), e.message().to_owned()))?;
            let start = self.overlays.last().map_or(self.file_bytes + 1, |(range, _)| range.end + 1);
            let range = start..start + overlay.literal.len();
            put(&mut self.root, &overlay.path.0, moved(value, start), &(start..start));
            self.overlays.push((range, overlay.origin.clone()));
        }
        Ok(self)
    }

    /// The whole tree.
    pub fn root(&self) -> &DeValue<'i> {
        &self.root
    }

    /// The value at a path.
    pub fn get(&self, path: &Path) -> Option<&Spanned<DeValue<'i>>> {
        let mut steps = path.0.iter();
        let mut at = child(&self.root, steps.next()?)?;
        for step in steps {
            at = child(at.get_ref(), step)?;
        }
        Some(at)
    }

    /// Takes the value at a path away.
    pub fn remove(&mut self, path: &Path) -> Option<DeValue<'i>> {
        let (last, way) = path.0.split_last()?;
        let mut at = &mut self.root;
        for step in way {
            at = child_mut(at, step)?;
        }
        match (at, last) {
            (DeValue::Table(table), Step::Key(key)) => table.remove(key.as_str()).map(Spanned::into_inner),
            (DeValue::Array(array), Step::Index(index)) if *index < array.len() => {
                let kept: Vec<_> = std::mem::replace(array, DeArray::new()).into_iter().collect();
                let mut removed = None;
                for (i, value) in kept.into_iter().enumerate() {
                    if i == *index { removed = Some(value.into_inner()) } else { array.push(value) }
                }
                removed
            }
            _ => None,
        }
    }

    /// Where the value at a path came from; for a path that nobody set, its nearest ancestor that somebody set is no origin.
    pub fn origin(&self, path: &Path) -> Origin {
        let Some(value) = self.get(path) else { return Origin::Default };
        // The key's line, not the value's: a list may begin lines below its key.
        self.origin_at(&self.key_span(path).unwrap_or_else(|| value.span()))
    }

    /// Whose text a span lies in.
    pub fn origin_at(&self, span: &Range<usize>) -> Origin {
        if let Some((_, origin)) = self.overlays.iter().find(|(range, _)| range.contains(&span.start)) {
            return origin.clone();
        }
        let line = self.line_starts.partition_point(|start| *start <= span.start.min(self.file_bytes));
        Origin::File { file: self.file.clone(), line }
    }

    /// The path of the key or value that a span of an error points at.
    pub fn path_at(&self, span: &Range<usize>) -> Option<Path> {
        let mut path = Path::default();
        find(&self.root, span, &mut path).then_some(path)
    }

    fn key_span(&self, path: &Path) -> Option<Range<usize>> {
        let (last, way) = path.0.split_last()?;
        let parent = if way.is_empty() { &self.root } else { self.get(&Path(way.to_vec()))?.get_ref() };
        match (parent, last) {
            (DeValue::Table(table), Step::Key(key)) => table.get_key_value(key.as_str()).map(|(key, _)| key.span()),
            _ => None,
        }
    }
}

fn child<'a, 'i>(value: &'a DeValue<'i>, step: &Step) -> Option<&'a Spanned<DeValue<'i>>> {
    match (value, step) {
        (DeValue::Table(table), Step::Key(key)) => table.get(key.as_str()),
        (DeValue::Array(array), Step::Index(index)) => array.get(*index),
        _ => None,
    }
}

fn child_mut<'a, 'i>(value: &'a mut DeValue<'i>, step: &Step) -> Option<&'a mut DeValue<'i>> {
    match (value, step) {
        (DeValue::Table(table), Step::Key(key)) => table.get_mut(key.as_str()).map(Spanned::get_mut),
        (DeValue::Array(array), Step::Index(index)) => array.get_mut(*index).map(Spanned::get_mut),
        _ => None,
    }
}

/// `place` is where in the imaginary text the new keys stand: an empty span, so that only the value has letters.
fn put<'i>(at: &mut DeValue<'i>, path: &[Step], value: Spanned<DeValue<'i>>, place: &Range<usize>) {
    let Some((step, rest)) = path.split_first() else {
        *at = value.into_inner();
        return;
    };
    match (at, step) {
        (DeValue::Table(table), Step::Key(key)) => {
            if rest.is_empty() {
                // The key is taken out first, so that its span, too, tells of the overlay.
                table.remove(key.as_str());
                table.insert(Spanned::new(place.clone(), key.clone().into()), value);
                return;
            }
            if !table.contains_key(key.as_str()) {
                let empty = Spanned::new(place.clone(), DeValue::Table(DeTable::new()));
                table.insert(Spanned::new(place.clone(), key.clone().into()), empty);
            }
            if let Some(next) = table.get_mut(key.as_str()) {
                put(next.get_mut(), rest, value, place);
            }
        }
        // One past the end appends.
        (DeValue::Array(array), Step::Index(index)) if *index == array.len() && rest.is_empty() => array.push(value),
        (DeValue::Array(array), Step::Index(index)) => {
            if let Some(next) = array.get_mut(*index) {
                put(next.get_mut(), rest, value, place);
            }
        }
        // The file has another type there; its error is reported when it is read.
        _ => {}
    }
}

/// The value with all its spans moved by an offset.
fn moved(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span().start + by..value.span().end + by;
    let value = match value.into_inner() {
        DeValue::Array(array) => {
            let mut out = DeArray::new();
            array.into_iter().for_each(|item| out.push(moved(item, by)));
            DeValue::Array(out)
        }
        DeValue::Table(table) => {
            let key = |key: &Spanned<_>| key.span().start + by..key.span().end + by;
            let entry = |(k, v): (Spanned<_>, Spanned<_>)| (Spanned::new(key(&k), k.into_inner()), moved(v, by));
            DeValue::Table(table.into_iter().map(entry).collect())
        }
        other => other,
    };
    Spanned::new(span, value)
}

/// Walks to the deepest key or value that the span points at, leaving the way in `path`.
fn find(value: &DeValue<'_>, span: &Range<usize>, path: &mut Path) -> bool {
    let inside = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let mut visit = |step: Step, key: Option<Range<usize>>, value: &Spanned<DeValue<'_>>| {
        path.0.push(step);
        let found = key.is_some_and(&inside) || find(value.get_ref(), span, path) || inside(value.span());
        if !found {
            path.0.pop();
        }
        found
    };
    match value {
        DeValue::Table(table) => {
            table.iter().any(|(key, value)| visit(Step::Key(key.get_ref().to_string()), Some(key.span()), value))
        }
        DeValue::Array(array) => array.iter().enumerate().any(|(i, value)| visit(Step::Index(i), None, value)),
        _ => false,
    }
}
