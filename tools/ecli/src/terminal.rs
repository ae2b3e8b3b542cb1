//! Colour, where people look and want it.

/// Whether there is colour.
#[derive(Clone, Copy)]
pub struct Style {
    on: bool,
}

impl Style {
    /// Colour if the output is a terminal that has some and `NO_COLOR` is not set, as no-color.org has it.
    pub fn of(is_terminal: bool) -> Style {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Style { on: is_terminal && !is_set("NO_COLOR") && !is_dumb }
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
