//! Colours, and escaping of control characters in untrusted text.

use std::borrow::Cow;

use eunomia::error::visible;

/// Whether to use colours.
#[derive(Clone, Copy)]
pub struct Style {
    on: bool,
}

impl Style {
    /// Colours if the output is a terminal that supports them and `NO_COLOR` is not set (see no-color.org).
    pub fn of(is_terminal: bool) -> Style {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Style { on: is_terminal && !is_set("NO_COLOR") && !is_dumb() }
    }

    /// Appends bold text.
    pub fn bold(self, text: &str, out: &mut Vec<u8>) {
        self.wrap("\x1b[1m", text, out);
    }

    /// Appends dim text.
    pub fn dim(self, text: &str, out: &mut Vec<u8>) {
        self.wrap("\x1b[2m", text, out);
    }

    fn wrap(self, start: &str, text: &str, out: &mut Vec<u8>) {
        let (start, end) = if self.on { (start, "\x1b[0m") } else { ("", "") };
        [start, text, end].iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    }
}

/// Whether the terminal supports no control sequences.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb")
}

/// Escapes control and invisible characters in text from packages, servers or file names, except line ends and tabs.
pub fn plain(text: &str) -> Cow<'_, str> {
    visible(text, b"\n\t")
}

/// Escapes control and invisible characters in events. The library has escaped those below U+0020, so the remaining ones
/// are ecli's own: line ends, colours and cursor movements. JSON remains valid.
pub fn make_visible(events: &mut Vec<u8>) {
    if events.iter().all(|byte| *byte < 0x7f) {
        return;
    }
    const OWN: &[u8] = b"\n\r\t\x1b";
    if let Cow::Owned(shown) = visible(&String::from_utf8_lossy(events), OWN) {
        *events = shown.into_bytes();
    }
}
