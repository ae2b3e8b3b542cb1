//! Reads the metrics. Scrapes that arrive at the same time share one reading.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use crate::engine::Engine;
use crate::expose::expose;
use crate::format::{FORMATS, Format};
use crate::itself::Itself;

/// Reads the metrics for scrapes.
pub struct Scraper {
    engine: Arc<Engine>,
    itself: Arc<Itself>,
    /// The last reading in each format, and when it began.
    last: [Mutex<Option<(Instant, Bytes)>>; FORMATS],
}

impl Scraper {
    /// Creates a scraper that has read nothing yet.
    pub fn new(engine: Arc<Engine>) -> Scraper {
        Scraper { engine, itself: Arc::default(), last: Default::default() }
    }

    /// Returns a reading that began after this call. Callers that wait at the same time get the same text.
    pub fn scrape(&self, format: Format) -> Result<Bytes, String> {
        let arrived = Instant::now();
        let mut last = self.last[format as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((begun, text)) = &*last
            && *begun >= arrived
        {
            return Ok(text.clone());
        }
        let begun = Instant::now();
        let text = expose(&self.engine, &self.itself, format);
        let text = text.map_err(|_| "the metrics cannot be formatted")?;
        self.itself.note_scrape(begun.elapsed());
        *last = Some((begun, text.clone()));
        Ok(text)
    }
}
