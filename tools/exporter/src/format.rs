//! The exposition formats, and which of them a request prefers.

use prometheus_client::encoding::prometheus_text;

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, 0.0.4.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Messages of Prometheus, the only format with native histograms.
    Protobuf,
}

/// The number of formats.
pub const FORMATS: usize = 3;

impl Format {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Classic => prometheus_text::CONTENT_TYPE,
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The format that the values of the Accept header prefer. The first one is used if several are equally good, and text if none is
    /// known.
    pub fn of<'a>(accept: impl Iterator<Item = &'a str>) -> Format {
        let mut best = (0.0, Format::Classic);
        for (quality, format) in accept.flat_map(|value| value.split(',')).filter_map(range) {
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }
}

/// The quality and the format of one media range; `None` if it is not one of these formats.
fn range(text: &str) -> Option<(f64, Format)> {
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    let (mut quality, mut version, mut proto, mut encoding) = (1.0, None, None, None);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match &*name.trim().to_ascii_lowercase() {
            "q" => quality = value.parse().unwrap_or(0.0),
            "version" => version = Some(value),
            "proto" => proto = Some(value),
            "encoding" => encoding = Some(value),
            _ => {}
        }
    }
    let format = match &*media_type {
        "application/vnd.google.protobuf" => {
            let is_ours = proto == Some("io.prometheus.client.MetricFamily") && encoding == Some("delimited");
            is_ours.then_some(Format::Protobuf)?
        }
        "application/openmetrics-text" => {
            matches!(version, None | Some("0.0.1" | "1.0.0")).then_some(Format::OpenMetrics)?
        }
        "text/plain" => matches!(version, None | Some("0.0.4")).then_some(Format::Classic)?,
        "text/*" | "*/*" => Format::Classic,
        _ => return None,
    };
    Some((quality, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_known_format_is_used() {
        const PROTOBUF: &str =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, expected) in [
            ("", Format::Classic),
            ("*/*", Format::Classic),
            ("application/json", Format::Classic),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text; version=2.0.0, text/plain;q=0.1", Format::Classic),
            (
                "text/plain;q=0.5, application/openmetrics-text;version=1.0.0;q=0.75,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.2, text/plain;version=0.0.4;q=0.3", Format::Classic),
            (PROTOBUF, Format::Protobuf),
            (
                &format!("{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1"),
                Format::Protobuf,
            ),
            (&format!("{PROTOBUF};q=0"), Format::Classic),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", Format::Classic),
            ("application/openmetrics-text;q=x, text/plain;q=0.1", Format::Classic),
        ] {
            assert_eq!(Format::of([accept].into_iter()), expected, "{accept}");
        }
        assert_eq!(Format::of(["text/plain;q=0.5", PROTOBUF].into_iter()), Format::Protobuf);
    }
}
