//! [`Vm`] and what its methods take and return.

mod batch;
mod bpf_iterator;
mod callback_sink;
#[cfg(feature = "channel")]
mod channel;
mod check;
mod control;
mod delivery;
mod event;
mod export;
mod group;
mod handover;
mod interrupt;
mod kinds;
mod lifecycle;
mod loaded;
mod lock;
mod map_entry;
mod maps;
mod membership;
mod options;
mod owned_event;
mod package_file;
mod phases;
mod pins;
mod poll;
mod programs;
mod queue;
mod records;
mod replace;
mod sources;
mod state;
mod stats;
mod switch;
mod test_run;
mod variables;
mod version;
mod wait_set;
#[cfg(feature = "wasm")]
mod wasm;
#[cfg(not(feature = "wasm"))]
#[path = "no_wasm.rs"]
mod wasm;

pub use batch::{Batch, Record};
pub use check::{CheckReport, Inspector, Outcome, Verdict, check};
pub use event::{Event, EventKind, Flow, Format};
pub use group::Group;
#[cfg(feature = "capi")]
pub(crate) use group::{AsVm, Turn};
pub use kinds::{Kind, Kinds};
pub use loaded::{LoadedCode, LoadedMap};
pub use maps::MapInfo;
pub use options::Options;
pub use owned_event::{Events, OwnedEvent};
pub use phases::Prepared;
pub use records::Records;
#[cfg(feature = "capi")]
pub(crate) use replace::failure_json;
pub use replace::{ReplaceOptions, Replaced};
pub use sources::SourceInfo;
pub use state::Vm;
pub use stats::Stats;
pub use test_run::{ProgInput, ProgResult};

pub use crate::bpf::exported::{Exported, FdRole};
pub use crate::bpf::map_memory::{Machine, MapSize, map_bytes, usual_limit};
pub use crate::bpf::memory_account::kernel_memory_limit;
pub use crate::bpf::pins::{remove_pins, running_pins};
pub use crate::bpf::session::lookup::{ProgCode, ProgInfo};
pub use crate::bpf::source::{LostKnown, Positions, SourceKind, Span};
pub use crate::bpf::version as libbpf_version;
pub use crate::wasm::{Config as WasmOptions, version as wamr_version};
