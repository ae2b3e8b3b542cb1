//! Colour, where people look and want it; and none of what strangers would have a terminal do.

use std::borrow::Cow;

use eunomia::error::visible;

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

/// A text from packages, servers or file names without what terminals obey and nobody sees; line ends and tabs stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    visible(text, b"\n\t")
}

/// The same of events, in which the library has escaped what JSON demands to be. What is left of the characters below a
/// space is ecli's own: line ends, colours, and where the cursor goes. JSON stays JSON.
pub fn make_visible(events: &mut Vec<u8>) {
    if events.iter().all(|byte| *byte < 0x7f) {
        return;
    }
    const OWN: &[u8] = b"\n\r\t\x1b";
    if let Cow::Owned(shown) = visible(&String::from_utf8_lossy(events), OWN) {
        *events = shown.into_bytes();
    }
}
