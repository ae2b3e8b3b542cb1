//! Pushes metrics and logs to a receiver of OTLP over HTTP.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eunomia_agent::client::{Client, Endpoint, Failure};
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::{Compression, Otlp};
use crate::engine::Engine;
use crate::logs::{Counts, Queue, nanoseconds};
use crate::otlp::{Received, Times, logs, message};

/// The time limit for one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time before the first repetition, which doubles with each.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The time in which further events are gathered for the same body.
const GATHERING: Duration = Duration::from_secs(1);

/// Pushes metrics as the configuration says, which may change.
#[derive(Default)]
pub struct Pusher {
    wanted: Mutex<Option<Otlp>>,
    changed: Notify,
    /// The events that wait to be pushed as logs.
    pub logs: Arc<Queue>,
}

impl Pusher {
    /// Changes where metrics are pushed to. At first, nothing is pushed.
    pub fn set(&self, wanted: Option<Otlp>) {
        let mut current = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != wanted {
            *current = wanted;
            self.changed.notify_one();
        }
    }

    /// Pushes until the future is dropped.
    pub async fn run(&self, engine: &Arc<Engine>) {
        loop {
            let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match wanted {
                Some(otlp) => {
                    tokio::select! {
                        () = self.follow(engine, &otlp) => {}
                        () = self.follow_logs(&otlp) => {}
                        () = self.changed.notified() => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// Pushes to one receiver.
    async fn follow(&self, engine: &Arc<Engine>, otlp: &Otlp) {
        let interval = Duration::from_secs(otlp.interval.0.into());
        let (start, mut received) = (nanoseconds(), Received::default());
        let mut last = start;
        let mut due = Instant::now() + interval;
        loop {
            sleep_until(due).await;
            due += interval;
            let times = Times { start, last, now: nanoseconds() };
            let (sent, next) = message(engine, otlp, times, &received);
            match timeout(interval, push(otlp, "/v1/metrics", sent.encode_to_vec())).await {
                Ok(Ok(reply)) => {
                    note_rejected(&reply);
                    (received, last) = (next, times.now);
                }
                Ok(Err(why)) => crate::say(format_args!("otlp: {why}")),
                Err(_) => crate::say(format_args!(
                    "otlp: {}: no success within {} s",
                    otlp.endpoint,
                    interval.as_secs()
                )),
            }
            due = due.max(Instant::now());
        }
    }

    /// Pushes logs to one receiver. Sleeps while there are no events.
    async fn follow_logs(&self, otlp: &Otlp) {
        let patience = Duration::from_secs(otlp.interval.0.into()).max(PATIENCE);
        loop {
            self.logs.wait().await;
            sleep(GATHERING).await;
            let events = self.logs.take();
            let count = events.len() as u64;
            let body = logs(otlp, events).encode_to_vec();
            let why = match timeout(patience, push(otlp, "/v1/logs", body)).await {
                Ok(Ok(reply)) => {
                    let rejected = rejected_logs(&reply).min(count);
                    self.logs.count(Counts { sent: count - rejected, rejected, dropped: 0 });
                    continue;
                }
                Ok(Err(why)) => why,
                Err(_) => format!("{}: no success within {} s", otlp.endpoint, patience.as_secs()),
            };
            crate::say(format_args!("otlp: {count} logs are lost: {why}"));
            self.logs.count(Counts { dropped: count, ..Counts::default() });
        }
    }
}

/// Sends one body, again if the receiver asks for that. Returns the reply. The error is one line.
async fn push(otlp: &Otlp, path: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
    let endpoint = Endpoint::parse(&otlp.endpoint)?;
    let client = Client { endpoint, token: None, authority: None, certificate: None };
    let mut headers: Vec<(String, String)> =
        otlp.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    headers.push(("content-type".into(), "application/x-protobuf".into()));
    let body = match otlp.compression {
        Compression::Gzip => {
            headers.push(("content-encoding".into(), "gzip".into()));
            compressed(&body).map_err(|error| error.to_string())?
        }
        Compression::None => body,
    };
    let mut delay = FIRST_DELAY;
    loop {
        let sent = timeout(PATIENCE, client.post(path, &headers, body.clone())).await;
        let (code, after, reply) = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(Failure::Connection(why))) => {
                crate::say(format_args!("otlp: {why}"));
                (503, None, Vec::new())
            }
            Ok(Err(Failure::Refused(code, _))) => (code, None, Vec::new()),
            Err(_) => (504, None, Vec::new()),
        };
        match code {
            200..=299 => return Ok(reply),
            429 | 502..=504 => {
                sleep(after.map_or(delay, Duration::from_secs)).await;
                delay *= 2;
            }
            _ => return Err(format!("{}: the response is {code}", otlp.endpoint)),
        }
    }
}

/// Prints how many values a receiver has rejected in a body that it has accepted. Sending them again would not help.
fn note_rejected(reply: &[u8]) {
    let reply = ExportMetricsServiceResponse::decode(reply).unwrap_or_default();
    if let Some(partial) = reply.partial_success.filter(|partial| partial.rejected_data_points > 0) {
        let (count, why) = (partial.rejected_data_points, partial.error_message);
        crate::say(format_args!("otlp: {count} values were rejected: {why}"));
    }
}

/// The number of logs that a receiver has rejected, which is reported.
fn rejected_logs(reply: &[u8]) -> u64 {
    let reply = ExportLogsServiceResponse::decode(reply).unwrap_or_default();
    let Some(partial) = reply.partial_success.filter(|partial| partial.rejected_log_records > 0) else {
        return 0;
    };
    let (count, why) = (partial.rejected_log_records, partial.error_message);
    crate::say(format_args!("otlp: {count} logs were rejected: {why}"));
    count.unsigned_abs()
}

fn compressed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
