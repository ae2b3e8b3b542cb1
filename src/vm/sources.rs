//! Sources of events by number.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::state::{Vm, out_of_range};
use crate::bpf::source::{LostKnown, Shape, SourceKind};
use crate::error::Result;
use crate::types::Type;

/// What is known about a source of events.
#[derive(Clone)]
pub struct SourceInfo {
    /// The map behind it.
    pub name: Arc<CStr>,
    /// What it is.
    pub kind: SourceKind,
    /// Milliseconds between two rounds of a sampled map, else 0.
    pub interval_ms: u32,
    /// Bytes of its type, or of a sampled map's value; 0 if unknown.
    pub record_size: u32,
    /// Type of its records or values, if the package tells.
    pub ty: Option<Arc<Type>>,
    /// Type of a sampled map's keys.
    pub key_ty: Option<Arc<Type>>,
    /// Events taken from the kernel.
    pub events: u64,
    /// Records that the kernel dropped, as far as `lost_known` says.
    pub lost: u64,
    /// How far that is known of this source. What ring buffers lose is not counted for each, see [`super::Stats`].
    pub lost_known: LostKnown,
}

impl Vm {
    /// Number of sources; 0 before load.
    pub fn source_count(&self) -> Result<usize> {
        Ok(self.inner()?.session()?.shapes().len())
    }

    /// Source number `index`.
    pub fn source_at(&self, index: usize) -> Result<SourceInfo> {
        let inner = self.inner()?;
        let shapes = inner.session()?.shapes();
        let shape = shapes.get(index).ok_or_else(|| out_of_range("source", index, shapes.len()))?;
        Ok(source_info(shape))
    }
}

fn source_info(shape: &Shape) -> SourceInfo {
    let is_map = shape.kind == SourceKind::Map;
    let ty = if is_map { shape.map.value.ty() } else { shape.record.as_ref().map(|plan| plan.ty()) };
    let size = if is_map { shape.map.value.size } else { ty.map_or(0, |ty| ty.size) };
    SourceInfo {
        name: Arc::clone(&shape.map.name),
        kind: shape.kind,
        interval_ms: shape.sample.as_ref().map_or(0, |sample| sample.interval_ms),
        record_size: size as u32,
        ty: ty.map(Arc::clone),
        key_ty: shape.map.key.ty().filter(|_| is_map).map(Arc::clone),
        events: shape.events.load(Relaxed),
        lost: shape.lost(),
        lost_known: match shape.kind {
            SourceKind::Ring => LostKnown::NotCounted,
            _ => shape.lost_known,
        },
    }
}
