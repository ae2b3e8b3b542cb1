//! The limits on what a task may use, from the request that starts it. The policy may set lower limits.

use eunomia::Status;
use serde_json::{Map, Value};

use crate::error::{ApiError, Result};
use crate::loader::protocol::Failure;
use crate::loader::wire::{Reader, Writer};
use crate::spec::expected;

/// The limits of a task. For `None`, the limit of the policy applies, if it has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Maximum kernel memory with full maps, in MiB.
    pub memory_mib: Option<u64>,
    /// Maximum processor time of its programs, in percent of one CPU.
    pub cpu_percent: Option<u64>,
    /// Maximum number of events per second.
    pub events_per_second: Option<u64>,
}

/// The members of the object.
const NAMES: [&str; 3] = ["memory_mib", "cpu_percent", "events_per_second"];

impl Limits {
    /// Reads an object with any of the members.
    pub fn from_json(value: &Value) -> Result<Limits> {
        let object = match value {
            Value::Null => return Ok(Limits::default()),
            Value::Object(object) => object,
            other => return Err(expected("limits", "an object", other)),
        };
        if let Some(name) = object.keys().find(|name| !NAMES.contains(&name.as_str())) {
            let text = format!("limits: unknown member {name:?}; known are {}", NAMES.join(", "));
            return Err(ApiError::invalid(text));
        }
        let number = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().filter(|number| *number > 0) {
                Some(number) => Ok(Some(number)),
                None => Err(expected(&format!("limits.{name}"), "a number from 1 on", value)),
            },
        };
        let [memory_mib, cpu_percent, events_per_second] = NAMES.map(number);
        let limits = Limits {
            memory_mib: memory_mib?,
            cpu_percent: cpu_percent?,
            events_per_second: events_per_second?,
        };
        Ok(limits)
    }

    /// Checks that a task may use this much kernel memory.
    pub fn check_memory(&self, bytes: u64) -> std::result::Result<(), Failure> {
        match self.memory_mib.filter(|most| bytes > most.saturating_mul(1 << 20)) {
            None => Ok(()),
            Some(most) => {
                let text = format!(
                    "its maps would use {bytes} bytes of kernel memory; limits.memory_mib allows {most} MiB"
                );
                Err(Failure::new(Status::NoMem, text))
            }
        }
    }

    /// The object that [`from_json`](Limits::from_json) reads, without the limits that are not set.
    pub fn to_json(self) -> Value {
        let all = NAMES.into_iter().zip(self.all());
        let set = all.filter_map(|(name, limit)| Some((name.to_owned(), limit?.into())));
        Value::Object(Map::from_iter(set))
    }

    fn all(self) -> [Option<u64>; 3] {
        [self.memory_mib, self.cpu_percent, self.events_per_second]
    }

    /// Writes the limits into a message. 0 means no limit.
    pub fn encode(self, out: &mut Writer) {
        self.all().iter().for_each(|limit| {
            out.number(limit.unwrap_or(0));
        });
    }

    /// Reads what [`encode`](Limits::encode) has written.
    pub fn decode(input: &mut Reader) -> Option<Limits> {
        let mut next = || input.number().map(|number| (number > 0).then_some(number));
        Some(Limits { memory_mib: next()?, cpu_percent: next()?, events_per_second: next()? })
    }
}
