//! Pushes metrics to a receiver of OTLP over HTTP.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use eunomia_agent::client::{Client, Endpoint, Failure};
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::{Compression, Otlp};
use crate::engine::Engine;
use crate::otlp::{Received, Times, message};

/// The time limit for one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time before the first repetition, which doubles with each.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// Pushes metrics as the configuration says, which may change.
#[derive(Default)]
pub struct Pusher {
    wanted: Mutex<Option<Otlp>>,
    changed: Notify,
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
            match timeout(interval, self.push(otlp, sent.encode_to_vec())).await {
                Ok(Ok(())) => (received, last) = (next, times.now),
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

    /// Sends one body, again if the receiver asks for that. The error is one line.
    async fn push(&self, otlp: &Otlp, body: Vec<u8>) -> Result<(), String> {
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
            let sent = timeout(PATIENCE, client.post("/v1/metrics", &headers, body.clone())).await;
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
                200..=299 => return rejected(&reply),
                429 | 502..=504 => {
                    sleep(after.map_or(delay, Duration::from_secs)).await;
                    delay *= 2;
                }
                _ => return Err(format!("{}: the response is {code}", otlp.endpoint)),
            }
        }
    }
}

/// Prints how many values a receiver has rejected in a body that it has accepted. Sending them again would
/// not help.
fn rejected(reply: &[u8]) -> Result<(), String> {
    let reply = ExportMetricsServiceResponse::decode(reply).unwrap_or_default();
    if let Some(partial) = reply.partial_success.filter(|partial| partial.rejected_data_points > 0) {
        let (count, why) = (partial.rejected_data_points, partial.error_message);
        crate::say(format_args!("otlp: {count} values were rejected: {why}"));
    }
    Ok(())
}

fn compressed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// Nanoseconds since 1970.
fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
