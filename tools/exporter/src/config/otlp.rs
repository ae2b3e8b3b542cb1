//! Where metrics are pushed to.

use std::collections::BTreeMap;

use eunomia_agent::client::Endpoint;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{About, Idle, Problem};

/// A receiver of OTLP over HTTP.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// `http://HOST:PORT` or `https://HOST:PORT`; the path of metrics is `/v1/metrics`.
    pub endpoint: String,
    /// The time between two pushes.
    #[serde(default = "minute")]
    pub interval: Idle,
    /// Whether values are totals or what was added since the last push.
    #[serde(default)]
    pub temporality: Temporality,
    /// Whether bodies are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Further headers, such as `authorization`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Attributes of the resource, in addition to the name of the service, the host and the operating system.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// The temporality of sums and histograms.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Temporality {
    /// Since the start.
    #[default]
    Cumulative,
    /// Since the last push.
    Delta,
}

/// The compression of bodies.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip.
    #[default]
    Gzip,
    /// None.
    None,
}

fn minute() -> Idle {
    Idle(60)
}

/// Checks what the types do not.
pub fn check(otlp: &Spanned<Otlp>) -> Result<(), Problem> {
    let (wanted, position) = (&otlp.value, otlp.referenced);
    let endpoint = Endpoint::parse(&wanted.endpoint).about(position, "otlp: endpoint")?;
    if endpoint.to_string() != wanted.endpoint.trim_end_matches('/') {
        let text = format!("otlp: endpoint: {} has no port; OTLP over HTTP uses 4318", wanted.endpoint);
        return Err(Problem::at(position, text));
    }
    if wanted.interval.0 == 0 {
        return Err(Problem::at(position, "otlp: interval: expected at least 1s"));
    }
    for (name, value) in &wanted.headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| name);
        if let Err(name) = name {
            return Err(Problem::at(position, format_args!("otlp: {name:?} is not the name of a header")));
        }
        if http::HeaderValue::from_str(value).is_err() {
            return Err(Problem::at(position, "otlp: the value of a header contains invalid characters"));
        }
    }
    Ok(())
}
