//! A bar on the terminal while a program is on its way.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// What is seen of one download; it goes when that ends.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// For `what`, of which `len` bytes are expected. Without a terminal nothing is shown.
    pub fn new(what: &str, len: Option<u64>) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = len.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template = if len.is_some() {
                "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}"
            } else {
                "{spinner} {msg} {bytes} {bytes_per_sec}"
            };
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.with_style(style).with_message(what.to_owned())
        });
        Progress { bar }
    }

    /// How far it has come.
    pub fn at(&self, bytes: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes as u64);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
