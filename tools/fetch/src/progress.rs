//! A progress bar on the terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// The progress bar of one download. Dropping it clears it.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Shows a bar for `what`, which has `len` bytes. Shows nothing if stderr is not a terminal.
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

    /// Sets how many bytes have arrived.
    pub fn set(&self, bytes: usize) {
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
