//! Filters from text, in the manner of tcpdump and nfdump.
//!
//! ```text
//! filter  = all { ("or" | "||") all }
//! all     = one { ("and" | "&&") one }
//! one     = ("not" | "!") one | "(" filter ")" | "any" | test
//! test    = [ "src" | "dst" ] subject [ op ] value
//!         | [ "src" | "dst" ] subject "in" "[" value { [ "," ] value } "]"
//!         | ( "in" | "out" | "input" | "output" ) "if" [ op ] value
//!         | column "is" "null" | protocol name | "ipv4" | "ipv6" | "bidirectional"
//! ```
//! Keywords may be written in any case. Any input gives a filter or an error; none overflows the stack.

use std::fmt;

use super::lex::{self, Token, TokenKind};
use super::test::{self, Op};
use super::words::{self, Subject};
use super::{Filter, Side, Test};
use crate::batch::Field;

/// How deep parentheses and negations may nest: keeps recursion over a filter far from the end of any thread's stack.
pub const DEPTH_MAX: usize = 100;

/// Bytes that a filter text may have: bounds the memory and time that a request's filter takes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Where, in bytes from the start of the text.
    pub position: usize,
    /// What would have been right there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl ParseError {
    pub(super) fn new(position: usize, expected: &str, found: &str) -> Self {
        Self { position, expected: expected.to_owned(), found: found.to_owned() }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter, byte {}: expected {}, found {}", self.position, self.expected, self.found)
    }
}

impl std::error::Error for ParseError {}

impl std::str::FromStr for Filter {
    type Err = ParseError;

    /// Reads a filter; an empty text is [`Filter::Any`].
    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() > TEXT_BYTES_MAX {
            let found = format!("{} bytes", text.len());
            return Err(ParseError::new(TEXT_BYTES_MAX, &format!("at most {TEXT_BYTES_MAX} bytes"), &found));
        }
        let mut parser = Parser { tokens: lex::tokens(text)?, next: 0, depth: 0 };
        if parser.peek() == &TokenKind::End {
            return Ok(Filter::Any);
        }
        let filter = parser.any_of()?;
        match parser.peek() {
            TokenKind::End => Ok(filter),
            _ => Err(parser.error("`and`, `or` or the end")),
        }
    }
}

pub(super) struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn any_of(&mut self) -> Result<Filter, ParseError> {
        let mut filters = vec![self.all_of()?];
        while self.take_word("or") || self.take_symbol("||") {
            filters.push(self.all_of()?);
        }
        Ok(single_or(filters, Filter::Or))
    }

    fn all_of(&mut self) -> Result<Filter, ParseError> {
        let mut filters = vec![self.one()?];
        while self.take_word("and") || self.take_symbol("&&") {
            filters.push(self.one()?);
        }
        Ok(single_or(filters, Filter::And))
    }

    fn one(&mut self) -> Result<Filter, ParseError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(&format!("at most {DEPTH_MAX} nested levels")));
        }
        let filter = if self.take_word("not") || self.take_symbol("!") {
            Filter::Not(Box::new(self.one()?))
        } else if self.take_symbol("(") {
            let filter = self.any_of()?;
            self.expect_symbol(")")?;
            filter
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(filter)
    }

    fn test(&mut self) -> Result<Filter, ParseError> {
        const EXPECTED: &str = "a test such as `src net 10.0.0.0/8`, `dst port 443`, `proto tcp`";
        let Some(word) = self.word() else { return Err(self.error(EXPECTED)) };
        let plain = match &*word {
            "any" => Some(Filter::Any),
            "ipv4" => Some(test::family(true)),
            "ipv6" => Some(test::family(false)),
            "bidirectional" if !self.after_next_is_operator() => Some(test::flag_set(Field::Bidirectional)),
            _ => words::protocol(&word).map(|number| test::equals(Field::Protocol, u64::from(number))),
        };
        if let Some(filter) = plain {
            self.next += 1;
            return Ok(filter);
        }
        if let Some(field) = words::field(&word).filter(|_| self.is_null_follows()) {
            self.next += 3;
            return Ok(Filter::Test(Test::IsNull(field)));
        }
        let subject = match &*word {
            "src" => self.sided(Side::Src)?,
            "dst" => self.sided(Side::Dst)?,
            "in" | "input" => self.interface(Field::InputIf)?,
            "out" | "output" => self.interface(Field::OutputIf)?,
            word => words::subject(word).ok_or_else(|| self.error(EXPECTED))?,
        };
        self.next += 1;
        self.values(subject)
    }

    fn sided(&mut self, side: Side) -> Result<Subject, ParseError> {
        self.next += 1;
        let subject = self.word().and_then(|w| words::subject(&w)).and_then(|s| words::on_side(s, side));
        subject.ok_or_else(|| self.error("`host`, `net`, `port`, `as`, `country` or `mac`"))
    }

    fn interface(&mut self, field: Field) -> Result<Subject, ParseError> {
        self.next += 1;
        if self.word().as_deref() == Some("if") { Ok(Subject::Field(field)) } else { Err(self.error("`if`")) }
    }

    /// What follows a subject: an operator and a value, a value alone, or `in [...]`.
    fn values(&mut self, subject: Subject) -> Result<Filter, ParseError> {
        if self.word().as_deref() == Some("in") && self.symbol_at(1, "[") {
            self.next += 2;
            let mut filters = Vec::new();
            while !self.take_symbol("]") {
                if !filters.is_empty() {
                    self.take_symbol(",");
                }
                filters.push(self.value(subject, Op::Eq)?);
            }
            return if filters.is_empty() { Err(self.error("a value")) } else { Ok(single_or(filters, Filter::Or)) };
        }
        let op = self.operator();
        self.value(subject, op)
    }

    fn operator(&mut self) -> Op {
        let TokenKind::Symbol(symbol) = self.peek() else { return Op::Eq };
        let op = match *symbol {
            "=" | "==" => Op::Eq,
            "!=" => Op::Ne,
            "<" => Op::Lt,
            "<=" => Op::Le,
            ">" => Op::Gt,
            ">=" => Op::Ge,
            _ => return Op::Eq,
        };
        self.next += 1;
        op
    }

    fn value(&mut self, subject: Subject, op: Op) -> Result<Filter, ParseError> {
        let text = match self.peek() {
            TokenKind::Word(text) | TokenKind::Quoted(text) => text.clone(),
            _ => return Err(self.error(test::expected(subject))),
        };
        let filter = test::build(subject, op, &text).map_err(|expected| self.error(expected))?;
        self.next += 1;
        Ok(filter)
    }

    fn peek(&self) -> &TokenKind {
        self.at(0)
    }

    fn at(&self, ahead: usize) -> &TokenKind {
        self.tokens.get(self.next + ahead).map_or(&TokenKind::End, |token| &token.kind)
    }

    /// The next word in lower case, when a word is next.
    fn word(&self) -> Option<String> {
        self.word_at(0)
    }

    fn word_at(&self, ahead: usize) -> Option<String> {
        match self.at(ahead) {
            TokenKind::Word(word) => Some(word.to_ascii_lowercase()),
            _ => None,
        }
    }

    fn symbol_at(&self, ahead: usize, symbol: &str) -> bool {
        matches!(self.at(ahead), TokenKind::Symbol(found) if *found == symbol)
    }

    fn is_null_follows(&self) -> bool {
        self.word_at(1).as_deref() == Some("is") && self.word_at(2).as_deref() == Some("null")
    }

    /// Whether the word after the next begins a value, so that a flag's name is not a test by itself.
    fn after_next_is_operator(&self) -> bool {
        let symbol =
            matches!(self.at(1), TokenKind::Symbol(s) if matches!(*s, "=" | "==" | "!=" | "<" | "<=" | ">" | ">="));
        symbol || matches!(self.word_at(1).as_deref(), Some("in" | "is" | "0" | "1"))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let taken = self.word().as_deref() == Some(word);
        self.next += usize::from(taken);
        taken
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let taken = self.symbol_at(0, symbol);
        self.next += usize::from(taken);
        taken
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<(), ParseError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.error(&format!("`{symbol}`"))) }
    }

    fn error(&self, expected: &str) -> ParseError {
        let (position, found) = match self.tokens.get(self.next) {
            Some(Token { kind: TokenKind::Word(word), position }) => (*position, format!("`{word}`")),
            Some(Token { kind: TokenKind::Quoted(text), position }) => (*position, format!("{text:?}")),
            Some(Token { kind: TokenKind::Symbol(symbol), position }) => (*position, format!("`{symbol}`")),
            Some(Token { kind: TokenKind::End, position }) => (*position, "the end".to_owned()),
            None => (self.tokens.last().map_or(0, |token| token.position), "the end".to_owned()),
        };
        ParseError::new(position, expected, &found)
    }
}

/// The only filter of a list as it is, several under `join`.
fn single_or(mut filters: Vec<Filter>, join: fn(Vec<Filter>) -> Filter) -> Filter {
    match filters.pop() {
        Some(only) if filters.is_empty() => only,
        Some(last) => {
            filters.push(last);
            join(filters)
        }
        None => Filter::Any,
    }
}
