//! Walks a parsed TOML document and collects every problem on the way.
//!
//! `serde` stops at the first error; an operator wants them all. So the document is read by hand: each key is
//! asked for by name, what was never asked for is unknown, and a value that cannot be used leaves a problem
//! and its default behind, so that reading goes on.

use super::problem::Problem;
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The problems found so far.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
    /// Every key that was asked for, as `section.key`: what the documentation has to cover.
    pub(super) keys: BTreeSet<String>,
}

/// A table that is being read.
pub(super) struct Section<'a> {
    /// Its path without list places: empty for the root, `rule` for each rule.
    path: &'static str,
    /// How messages call it: `[node]`, `[[rule]] number 3`.
    pub(super) called: String,
    table: Option<&'a DeTable<'a>>,
    pub(super) span: Range<usize>,
    asked: Vec<&'static str>,
}

/// A value that was asked for.
#[derive(Clone, Copy)]
struct Value<'a> {
    value: &'a DeValue<'a>,
    start: usize,
    end: usize,
}

/// A string of the document, with its place.
#[derive(Clone, Debug)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) span: Range<usize>,
}

impl Value<'_> {
    fn span(&self) -> Range<usize> {
        self.start..self.end
    }
}

impl<'a> Section<'a> {
    pub(super) fn root(document: &'a Spanned<DeTable<'a>>) -> Self {
        Self {
            path: "",
            called: "the file".into(),
            table: Some(document.get_ref()),
            // A missing section has no place: its message points to the file's first byte.
            span: 0..0,
            asked: Vec::new(),
        }
    }

    /// True if the key is there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.get(key).is_some())
    }

    /// Where the value of a key stands; where the section does if it has none.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.table.and_then(|table| table.get(key)).map_or(self.span.clone(), Spanned::span)
    }

    fn take(&mut self, reader: &mut Reader, key: &'static str) -> Option<Value<'a>> {
        reader.keys.insert(if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) });
        self.asked.push(key);
        let spanned = self.table?.get(key)?;
        let span = spanned.span();
        Some(Value { value: spanned.get_ref(), start: span.start, end: span.end })
    }

    /// Reports every key that nobody asked for. Call it when everything was asked.
    pub(super) fn finish(self, reader: &mut Reader) {
        let Some(table) = self.table else { return };
        for (key, _) in table.iter() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let help = match nearest(name, &self.asked) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("known here: {}", self.asked.join(", ")),
            };
            let shown: String = name.chars().take(64).collect();
            reader.report(key.span(), format!("unknown key {shown:?} in {}", self.called), help);
        }
    }

    fn message(&self, key: &str, what: &str) -> String {
        format!("{key} in {} {what}", self.called)
    }
}

impl Reader {
    pub(super) fn report(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem { message: message.into(), help: help.into(), span });
    }

    /// The table `[key]`; an empty one where it is absent or no table.
    pub(super) fn section<'a>(&mut self, root: &mut Section<'a>, key: &'static str) -> Section<'a> {
        self.subsection(root, key, key)
    }

    /// The table `key` of `parent`, whose whole path is `path`.
    pub(super) fn subsection<'a>(
        &mut self,
        parent: &mut Section<'a>,
        key: &'static str,
        path: &'static str,
    ) -> Section<'a> {
        let mut section = Section {
            path,
            called: format!("[{path}]"),
            table: None,
            span: parent.span.clone(),
            asked: Vec::new(),
        };
        if let Some(value) = parent.take(self, key) {
            section.span = value.span();
            match value.value {
                DeValue::Table(table) => section.table = Some(table),
                other => self.report(
                    value.span(),
                    format!("{path} is {}, not a table", type_name(other)),
                    format!("write [{path}] on a line of its own and its keys below"),
                ),
            }
        }
        section
    }

    /// The tables `[[key]]`, in their order.
    pub(super) fn list<'a>(&mut self, root: &mut Section<'a>, key: &'static str) -> Vec<Section<'a>> {
        self.sublist(root, key, key)
    }

    /// The tables `key` of `parent`, whose whole path is `path`, in their order.
    pub(super) fn sublist<'a>(
        &mut self,
        parent: &mut Section<'a>,
        key: &'static str,
        path: &'static str,
    ) -> Vec<Section<'a>> {
        let Some(value) = parent.take(self, key) else { return Vec::new() };
        let wrong = format!("write [[{path}]] on a line of its own and its keys below, once for each");
        let DeValue::Array(items) = value.value else {
            self.report(
                value.span(),
                format!("{path} is {}, not a list of tables", type_name(value.value)),
                wrong,
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let DeValue::Table(table) = item.get_ref() else {
                let message = format!("{path} holds {}, not tables only", type_name(item.get_ref()));
                self.report(item.span(), message, wrong.clone());
                continue;
            };
            // Messages name an entry as the operator does, where it has a name.
            let called = match table.get("name").and_then(|name| name.get_ref().as_str()) {
                Some(name) => format!("[[{path}]] {:?}", name.chars().take(64).collect::<String>()),
                None => format!("[[{path}]] number {}", place + 1),
            };
            sections.push(Section { path, called, table: Some(table), span: item.span(), asked: Vec::new() });
        }
        sections
    }

    /// A whole number in a range; `unit` for the message, as in `seconds`.
    pub(super) fn number(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        unit: &str,
        range: RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        self.optional_number(section, key, unit, range).unwrap_or(default)
    }

    /// The same without a default.
    pub(super) fn optional_number(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        unit: &str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let value = section.take(self, key)?;
        let number = self.integer(section, key, value, unit, &range);
        number.filter(|number| range.contains(number))
    }

    fn integer(
        &mut self,
        section: &Section<'_>,
        key: &str,
        value: Value<'_>,
        unit: &str,
        range: &RangeInclusive<u32>,
    ) -> Option<u32> {
        let limits = format!("write a whole number of {unit} from {} to {}", range.start(), range.end());
        let DeValue::Integer(integer) = value.value else {
            let what = format!("is {}, not a whole number", type_name(value.value));
            self.report(value.span(), section.message(key, &what), limits);
            return None;
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
        if !number.is_some_and(|number| range.contains(&number)) {
            self.report(value.span(), section.message(key, "is out of its range"), limits);
            return None;
        }
        number
    }

    /// A list of whole numbers in a range.
    pub(super) fn numbers(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        unit: &str,
        range: RangeInclusive<u32>,
    ) -> Vec<(u32, Range<usize>)> {
        let Some(value) = section.take(self, key) else { return Vec::new() };
        let DeValue::Array(items) = value.value else {
            let what = format!("is {}, not a list", type_name(value.value));
            self.report(value.span(), section.message(key, &what), "write a list of numbers, as in [2, 3]");
            return Vec::new();
        };
        let mut numbers = Vec::new();
        for item in items.iter() {
            let span = item.span();
            let value = Value { value: item.get_ref(), start: span.start, end: span.end };
            numbers.extend(self.integer(section, key, value, unit, &range).map(|number| (number, span)));
        }
        numbers
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, section: &mut Section<'_>, key: &'static str, default: bool) -> bool {
        match section.take(self, key) {
            None => default,
            Some(Value { value: DeValue::Boolean(flag), .. }) => *flag,
            Some(value) => {
                let what = format!("is {}, neither true nor false", type_name(value.value));
                self.report(value.span(), section.message(key, &what), "write true or false, without quotes");
                default
            }
        }
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.text(section, key)?;
        let found = choices.iter().find(|(word, _)| *word == text.text).map(|(_, choice)| *choice);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let message = section.message(key, &format!("is {}", quoted(text.text)));
            let help = match nearest(text.text, &words) {
                Some(word) => format!("did you mean {word:?}?"),
                None => format!("write one of {words:?}"),
            };
            self.report(text.span, message, help);
        }
        found
    }

    /// A string.
    pub(super) fn text<'a>(&mut self, section: &mut Section<'a>, key: &'static str) -> Option<Text<'a>> {
        let value = section.take(self, key)?;
        self.string(section, key, value)
    }

    /// A string that has to be there; `help` says what to write.
    pub(super) fn needed_text<'a>(
        &mut self,
        section: &mut Section<'a>,
        key: &'static str,
        help: &str,
    ) -> Option<Text<'a>> {
        let Some(value) = section.take(self, key) else {
            self.report(section.span.clone(), section.message(key, "is missing"), help);
            return None;
        };
        self.string(section, key, value)
    }

    /// A string or a list of strings.
    pub(super) fn texts<'a>(&mut self, section: &mut Section<'a>, key: &'static str) -> Vec<Text<'a>> {
        let Some(value) = section.take(self, key) else { return Vec::new() };
        let DeValue::Array(items) = value.value else {
            return self.string(section, key, value).into_iter().collect();
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            let span = item.span();
            let value = Value { value: item.get_ref(), start: span.start, end: span.end };
            texts.extend(self.string(section, key, value));
        }
        texts
    }

    fn string<'a>(&mut self, section: &Section<'_>, key: &str, value: Value<'a>) -> Option<Text<'a>> {
        match value.value {
            DeValue::String(text) => Some(Text { text, span: value.span() }),
            other => {
                let what = format!("is {}, not a string", type_name(other));
                self.report(value.span(), section.message(key, &what), "write it in double quotes");
                None
            }
        }
    }
}

/// A value from the file as messages quote it: never longer than a line.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(64).collect();
    if shown.len() < text.len() { format!("{shown:?}…") } else { format!("{shown:?}") }
}

/// The known word that `word` is most likely meant to be.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('_', "-");
    let best =
        known.iter().map(|known| (distance(&word, known), *known)).min_by_key(|(distance, _)| *distance)?;
    let (distance, candidate) = best;
    (distance <= candidate.len().div_ceil(3)).then_some(candidate)
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b.bytes()) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = replaced.min(*cell + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(nearest("control_socket", &["name", "control-socket"]), Some("control-socket"));
        assert_eq!(nearest("sorce", &["source", "destination"]), Some("source"));
        assert_eq!(nearest("colour", &["source", "log"]), None);
        assert_eq!(nearest(&"x".repeat(1000), &["source"]), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
