//! Colour, where people look and want it; and none of what strangers would have a terminal do.

use std::borrow::Cow;

/// Whether there is colour.
#[derive(Clone, Copy)]
pub struct Style {
    on: bool,
}

impl Style {
    /// Colour if the output is a terminal that has some and `NO_COLOR` is not set, as no-color.org has it.
    pub fn of(is_terminal: bool) -> Style {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Style { on: is_terminal && !is_set("NO_COLOR") && !is_dumb() }
    }

    /// Appends `text`, bold.
    pub fn bold(self, text: &str, out: &mut Vec<u8>) {
        self.wrap("\x1b[1m", text, out);
    }

    /// Appends `text`, less bright.
    pub fn dim(self, text: &str, out: &mut Vec<u8>) {
        self.wrap("\x1b[2m", text, out);
    }

    fn wrap(self, start: &str, text: &str, out: &mut Vec<u8>) {
        let (start, end) = if self.on { (start, "\x1b[0m") } else { ("", "") };
        [start, text, end].iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    }
}

/// Whether a terminal knows no orders but to write on.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb")
}

/// A text from packages, servers or file names without what terminals obey: control characters become `?`, line ends and
/// tabs stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    let is_order = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(is_order) { text.replace(is_order, "?").into() } else { text.into() }
}

/// Takes the control characters from U+0080 to U+009F out of events, which the library escapes only up to U+001F as JSON
/// demands: U+009B begins a sequence as ESC [ does.
pub fn without_c1(events: &mut Vec<u8>) {
    let is_c1 = |pair: &[u8]| pair[0] == 0xc2 && pair[1] & 0xe0 == 0x80;
    if events.windows(2).any(is_c1) {
        let text = String::from_utf8_lossy(events);
        *events = text.replace(|c| ('\u{80}'..='\u{9f}').contains(&c), "?").into_bytes();
    }
}
