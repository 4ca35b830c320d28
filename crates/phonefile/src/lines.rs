//! Lines with their exact ends, and the items on them.

/// The lines of a text, in order. Joined they are the text: a line without an end is the last one and not
/// empty, so that an end at the end of the text begins no further line.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    rest: &'a str,
}

/// A line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Line<'a> {
    /// What is on it.
    pub text: &'a str,
    /// What ends it.
    pub end: LineEnd,
}

/// What ends a line: U+000D and U+000A each do (16-601443 issue 5 p. 109); phones write both (9600
/// Administrator Guide R1.5, 9610 pages), and accept the second alone (observed, unconfirmed).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LineEnd {
    /// Both, in this order.
    CrLf,
    /// U+000A alone.
    Lf,
    /// U+000D alone.
    Cr,
    /// Nothing: the text ends.
    None,
}

/// A `name=value` line, split at its first `=` (16-601443 issue 5 p. 109).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Item<'a> {
    /// Compared without regard to case; spaces belong to it. Neither empty nor with control characters:
    /// in UTF-16 that lost its byte order mark a NUL follows each letter.
    pub name: &'a str,
    /// Any text; spaces belong to it.
    pub value: &'a str,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.rest.find(['\r', '\n']).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(at);
        let end = [LineEnd::CrLf, LineEnd::Lf, LineEnd::Cr]
            .into_iter()
            .find(|end| rest.starts_with(end.as_str()))
            .unwrap_or(LineEnd::None);
        self.rest = rest.strip_prefix(end.as_str()).unwrap_or_default();
        Some(Line { text, end })
    }
}

impl LineEnd {
    /// Its characters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CrLf => "\r\n",
            Self::Lf => "\n",
            Self::Cr => "\r",
            Self::None => "",
        }
    }
}

impl<'a> Line<'a> {
    /// The item on it, if it is a `name=value` line.
    pub fn item(&self) -> Option<Item<'a>> {
        let (name, value) = self.text.split_once('=')?;
        let is_name = !name.is_empty() && !name.chars().any(char::is_control);
        is_name.then_some(Item { name, value })
    }
}
