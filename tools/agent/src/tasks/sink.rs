//! Opens the sinks of tasks.

use std::sync::Arc;

use http::StatusCode;

use super::Tasks;
use crate::error::{ApiError, Result};
use crate::journal::Journal;
use crate::sink::{FileSink, Sink};
use crate::sinks::{self, Output, Target};
use crate::task::Task;

impl Tasks {
    /// Begins to write the events of a task to its sink, unless that has begun. Call it on a thread of the runtime.
    pub(super) fn begin_sink(&self, task: &Arc<Task>) -> Result<()> {
        if task.current().has_sink {
            return Ok(());
        }
        let target = match &task.spec.sink {
            Sink::None => return Ok(()),
            Sink::Journal => Target::Journal(Journal::open().map_err(|error| failed("the journal", &error))?),
            Sink::File(sink) => Target::File(Box::new(self.open_file(sink)?)),
        };
        sinks::start(task, target).map_err(|error| failed("a thread", &error))?;
        task.current().has_sink = true;
        Ok(())
    }

    fn open_file(&self, sink: &FileSink) -> Result<Output> {
        let (path, keep) = (sink.path.to_string_lossy().into_owned(), sink.keep);
        let file = self.loader.open_sink(&path, None)?;
        let loader = Arc::clone(&self.loader);
        let rotate = move || loader.open_sink(&path, Some(keep)).map_err(|error| error.message);
        Ok(Output::new(file, sink, Box::new(rotate)))
    }
}

fn failed(what: &str, error: &std::io::Error) -> ApiError {
    let text = format!("sink: {what}: {error}");
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "not_found", text)
}
