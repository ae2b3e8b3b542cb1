//! Describes a package and its state as JSON.

use std::sync::Arc;

use serde_json::Value;

use super::{Place, Session};
use crate::bpf::constants::LOST_MAP;
use crate::bpf::map::Map;
use crate::bpf::memory_account::Need;
use crate::bpf::object::Var;
use crate::package::{compact, members};
use crate::types::Type;

impl Session {
    /// Returns the package and its state as JSON.
    pub fn describe(&self) -> String {
        let state = match (self.is_loaded(), self.attached) {
            _ if self.place == Place::LoadedElsewhere => "imported",
            (false, _) => "opened",
            (true, false) => "loaded",
            (true, true) => "attached",
        };
        let is_counted = self.maps().iter().any(|map| &*map.label() == LOST_MAP);
        let lost = if is_counted { "perf buffers and ring buffers" } else { "perf buffers" };
        let mut text = compact(&members([
            ("kind", "json".into()),
            ("state", state.into()),
            ("lost_kernel", lost.into()),
            ("variables", self.vars().iter().map(|var| self.describe_var(var)).collect()),
            ("kernel_memory", self.kernel_memory().into()),
            ("maps", self.maps().iter().map(|map| self.describe_map(map)).collect()),
            ("programs", (0..self.prog_count()).map(|index| self.describe_prog(index)).collect()),
        ]));
        // It is serialized separately: a copy of the value would take many times the memory of its text.
        text.pop();
        text + ",\"meta\":" + &compact(self.package.meta_value()) + "}"
    }

    /// The kernel memory of the package with full maps, in bytes.
    pub fn kernel_memory(&self) -> u64 {
        let (pages, dispatchers) = (self.perf_pages(), self.dispatcher_count());
        Need::of(&self.opened, &self.package.object, pages, dispatchers, &[]).sum
    }

    fn describe_var(&self, var: &Var) -> Value {
        let text = self.var_json(&var.name).unwrap_or_default();
        let value: Value = serde_json::from_slice(&text).unwrap_or_default();
        members([
            ("name", (*var.name).into()),
            ("section", (*var.section).into()),
            ("type", (*var.ty.name).into()),
            ("constant", var.is_constant().into()),
            ("value", value),
        ])
    }

    fn describe_map(&self, map: &Map) -> Value {
        let spelling = |ty: Option<&Arc<Type>>| ty.map_or(Value::Null, |ty| (*ty.name).into());
        members([
            ("name", (*map.label()).into()),
            ("kind", map.kind.into()),
            ("key_size", map.key.size.into()),
            ("value_size", map.value.size.into()),
            ("max_entries", map.max_entries.into()),
            ("bytes", self.map_bytes(map).into()),
            ("key_type", spelling(map.key.ty())),
            ("value_type", spelling(map.value.ty())),
        ])
    }

    fn describe_prog(&self, index: usize) -> Value {
        let info = self.prog_info(index);
        members([
            ("name", info.name.to_string_lossy().into()),
            ("section", info.section.to_string_lossy().into()),
            ("autoload", info.autoload.into()),
            ("loaded", info.loaded.into()),
            ("attached", info.attached.into()),
            ("instead_of", self.alternatives.instead_of(index).into()),
            ("skipped", self.alternatives.cause(index).map(|cause| cause.reason()).into()),
        ])
    }
}
