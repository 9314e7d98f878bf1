//! Words of a filter text. Bytes are indexed here only.

use super::parse::ParseError;

/// One word with where it stands in the text, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub position: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A run of characters that are neither white space nor symbols.
    Word(String),
    /// Text between quotes: never a keyword.
    Quoted(String),
    /// `( ) [ ] , ! && || = == != < <= > >=`
    Symbol(&'static str),
    /// The text is over.
    End,
}

/// Symbols, longest first, so that `<=` is not read as `<`.
const SYMBOLS: &[&str] = &["&&", "||", "==", "!=", "<=", ">=", "(", ")", "[", "]", ",", "!", "=", "<", ">"];

/// Splits a filter text; the last token is [`TokenKind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let position = text.len() - rest.len();
        let (kind, length) = if first == '"' || first == '\'' {
            quoted(rest, first, position)?
        } else if let Some(symbol) = SYMBOLS.iter().copied().find(|s| rest.starts_with(s)) {
            (TokenKind::Symbol(symbol), symbol.len())
        } else {
            let length = rest.find(ends_word).unwrap_or(rest.len());
            if length == 0 {
                return Err(ParseError::new(position, "a word, `&&` or `||`", &first.to_string()));
            }
            (TokenKind::Word(rest[..length].to_owned()), length)
        };
        tokens.push(Token { kind, position });
        rest = rest[length..].trim_start();
    }
    tokens.push(Token { kind: TokenKind::End, position: text.len() });
    Ok(tokens)
}

/// Whether text must be quoted to be read as one word.
pub(super) fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.contains(ends_word)
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "()[],!=<>&|\"'\\".contains(c)
}

/// A quoted text at the start of `rest`: its value and its length with quotes. A backslash takes the next character as
/// it is.
fn quoted(rest: &str, quote: char, position: usize) -> Result<(TokenKind, usize), ParseError> {
    let mut value = String::new();
    let mut escaped = false;
    for (offset, c) in rest.char_indices().skip(1) {
        if escaped {
            value.push(c);
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return Ok((TokenKind::Quoted(value), offset + quote.len_utf8()));
        } else {
            value.push(c);
        }
    }
    Err(ParseError::new(position + rest.len(), &format!("a closing {quote}"), "the end"))
}
