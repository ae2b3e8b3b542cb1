//! Sources of events, by index.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::state::{Vm, out_of_range};
use crate::bpf::source::{LostKnown, Positions, Shape, SourceKind};
use crate::error::Result;
use crate::package::Sample;
use crate::types::Type;

/// A source of events: a ring buffer, a perf buffer or a sampled map.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceInfo {
    /// The name of its map.
    pub name: Arc<CStr>,
    /// The kind of the source.
    pub kind: SourceKind,
    /// The sampling of a map: the interval and the kind of its values. `None` for buffers.
    pub sample: Option<Sample>,
    /// The size in bytes of the record type, or of a sampled map's value. 0 if it is unknown.
    pub record_size: u32,
    /// The type of its records, or of a sampled map's values. `None` if the package does not specify it.
    pub ty: Option<Arc<Type>>,
    /// The type of a sampled map's keys.
    pub key_ty: Option<Arc<Type>>,
    /// The number of events read from the kernel.
    pub events: u64,
    /// The number of records that the kernel dropped, as far as they are known: see `lost_known`.
    pub lost: u64,
    /// The completeness of `lost`. The kernel does not count losses per ring buffer; see
    /// [`Stats::lost_kernel`](crate::vm::Stats::lost_kernel).
    pub lost_known: LostKnown,
    /// The positions up to which a ring buffer has been written and read. `None` for other sources. See
    /// [`Vm::drain_to`].
    pub positions: Option<Positions>,
}

impl Vm {
    /// Returns the number of sources. 0 before load.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// for index in 0..vm.source_count()? {
    ///     let source = vm.source_at(index)?;
    ///     println!("{:?} ({:?}): {} events", source.name, source.kind, source.events);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn source_count(&self) -> Result<usize> {
        Ok(self.inner()?.session()?.shapes().len())
    }

    /// Returns the source at `index`, the number that [`Batch::source`](crate::vm::Batch::source) also uses.
    /// `Err(NotFound)` if `index` is out of range.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let source = vm.source_at(0)?;
    /// if let Some(ty) = &source.ty {
    ///     println!("{:?} has records of type {}, {} bytes each", source.name, ty.name, source.record_size);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn source_at(&self, index: usize) -> Result<SourceInfo> {
        let inner = self.inner()?;
        let shapes = inner.session()?.shapes();
        let shape = shapes.get(index).ok_or_else(|| out_of_range("source", index, shapes.len()))?;
        Ok(source_info(shape))
    }
}

fn source_info(shape: &Shape) -> SourceInfo {
    let is_map = shape.kind == SourceKind::Map;
    let ty = shape.ty();
    let size = if is_map { shape.map.value.size } else { ty.map_or(0, |ty| ty.size) };
    SourceInfo {
        name: Arc::clone(&shape.map.name),
        kind: shape.kind,
        sample: shape.sample.clone(),
        record_size: size as u32,
        ty: ty.map(Arc::clone),
        key_ty: shape.map.key.ty().filter(|_| is_map).map(Arc::clone),
        events: shape.events.load(Relaxed),
        lost: shape.lost(),
        lost_known: match shape.kind {
            SourceKind::Ring => LostKnown::NotCounted,
            _ => shape.lost_known,
        },
        positions: shape.positions(),
    }
}
