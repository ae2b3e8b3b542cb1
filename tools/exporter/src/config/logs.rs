//! The events of a program that are pushed as logs.

use serde::Deserialize;

/// Which events are pushed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// The stream of events, if the package has several.
    pub stream: Option<String>,
    /// A condition on events.
    #[serde(rename = "where")]
    pub condition: Option<String>,
}
