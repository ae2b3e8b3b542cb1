//! Finds the maps that deliver events, and the types of their records.
//!
//! The package specifies the type. If it does not, a type is inferred only if there is exactly one candidate. A source without a
//! type delivers raw bytes.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::constants::{LOST_MAP, map_type};
use super::elf;
use super::map::Map;
use super::sys::perf::Perf;
use crate::btf::Btf;
use crate::error::{Error, Result, Status, listed};
use crate::log::{Level, Log};
use crate::os;
use crate::package::{CustomMember, ExportConfig, ExportType, MapMeta, NameIndex, Package, Sample};
use crate::render::Plan;
use crate::types::{Field, MemberFormats, Type};

/// A map that delivers events.
pub struct Export {
    /// Its index among the maps.
    pub map: usize,
    /// The plan of its records; `None` if their type is unknown. Unused for sampled maps.
    pub record: Option<Plan>,
    /// The settings of its sampling; `None` for a ring or perf buffer.
    pub sample: Option<Sample>,
    /// The parts of a perf buffer, if another process has opened it.
    pub given: Option<Given>,
}

/// The parts of a perf buffer that another process has opened.
pub struct Given {
    /// The CPU and the event of each.
    pub events: Vec<(i32, OwnedFd)>,
    /// The pages of each.
    pub pages: u32,
    /// `Perf::given`. It is called only through this pointer, so that the linker can leave it out of the C library,
    /// which cannot import packages.
    pub open: fn(Vec<(i32, OwnedFd)>, u32) -> os::Result<Perf>,
}

/// Finds the maps that deliver events.
pub fn exports(
    package: &Package,
    btf: &Btf,
    formats: &MemberFormats,
    maps: &[Arc<Map>],
    log: &Log,
) -> Result<Vec<Export>> {
    let meta = &package.meta;
    let mut exports: Vec<(Export, &ExportConfig, Option<&MapMeta>)> = Vec::new();
    let mut places = NameIndex::default();
    for (index, map_meta) in meta.maps.iter().enumerate().rev() {
        // libbpf may shorten the names of data sections.
        for name in [&map_meta.name, &map_meta.ident] {
            places.insert(name, index);
        }
    }
    for (index, map) in maps.iter().enumerate() {
        let map_meta = places.get(&map.label()).map(|place| &meta.maps[place]);
        let config = map_meta.map_or(&ExportConfig::Unset, |meta| &meta.export);
        let sample = map_meta.and_then(|meta| meta.sample.clone()).filter(|_| !is_buffer(map));
        let wanted = *config != ExportConfig::NoExport && &*map.label() != LOST_MAP;
        if wanted && sample.is_some() && map.key.size == 0 {
            let text = "has no keys and cannot be sampled";
            return Err(map.about(Error::new(Status::Package, text)));
        }
        if wanted && (sample.is_some() || is_buffer(map)) {
            exports.push((Export { map: index, record: None, sample, given: None }, config, map_meta));
        }
    }
    let buffers = exports.iter().filter(|(export, ..)| export.sample.is_none()).count();
    let mut chooser = Chooser { package, btf, formats, log, buffers, candidates: None };
    let choose = |(export, config, map_meta): (Export, &ExportConfig, Option<&MapMeta>)| {
        let map = &maps[export.map];
        let ty = if export.sample.is_some() { None } else { chooser.choose(map, config, map_meta)? };
        let record = ty.as_ref().map(Plan::new).transpose()?;
        Ok(Export { record, ..export })
    };
    exports.into_iter().map(choose).collect()
}

/// Whether the map is a ring or perf buffer.
pub fn is_buffer(map: &Map) -> bool {
    matches!(map.kind, map_type::RINGBUF | map_type::PERF_EVENT_ARRAY)
}

struct Chooser<'a> {
    package: &'a Package,
    btf: &'a Btf,
    formats: &'a MemberFormats,
    log: &'a Log,
    buffers: usize,
    candidates: Option<Vec<u32>>,
}

impl Chooser<'_> {
    fn choose(
        &mut self,
        map: &Map,
        config: &ExportConfig,
        map_meta: Option<&MapMeta>,
    ) -> Result<Option<Arc<Type>>> {
        let at = |e: Error| map.about(e.at("event type"));
        if let ExportConfig::BtfType(id) = config {
            if *id == 0 {
                self.raw(map, &[]);
                return Ok(None);
            }
            return self
                .formats
                .type_from_btf(self.btf, self.btf.typedef_of_untagged(*id))
                .map(Some)
                .map_err(at);
        }
        if let ExportConfig::Members(members) = config {
            return self.custom(map, members).map(Some).map_err(at);
        }
        if let Some(export) = map_meta.and_then(|meta| meta.export_type.as_ref()) {
            return self.exported(export).map_err(at);
        }
        let exports = &self.package.meta.export_types;
        match exports.as_slice() {
            [] => Ok(self.infer(map)),
            // Published packages with several types use the first one. If there are several buffers, nothing specifies which of
            // them has that type.
            [first, others @ ..] if others.is_empty() || self.buffers == 1 => {
                self.exported(first).map_err(at)
            }
            several => {
                let names: Vec<_> = several.iter().map(|export| export.name.as_str()).collect();
                self.raw(map, &names);
                Ok(None)
            }
        }
    }

    fn custom(&self, map: &Map, members: &[CustomMember]) -> Result<Arc<Type>> {
        let mut fields = Vec::new();
        let mut size = 0;
        for member in members {
            let ty = self.formats.type_from_btf(self.btf, member.btf_type_id)?;
            size = size.max((member.offset as usize).saturating_add(ty.size));
            fields.push(Field::member(&member.name, ty, member.offset));
        }
        Type::structure(&map.label(), size, fields)
    }

    /// Returns the type of an `export_types` entry: by id if the type with that id has this name, otherwise by name, otherwise
    /// by its members.
    fn exported(&self, export: &ExportType) -> Result<Option<Arc<Type>>> {
        let named = |id: &u32| self.btf.is_value(*id) && self.btf.name(*id) == Some(&export.name);
        let by_id = export.type_id.map(|id| self.btf.typedef_of_untagged(id)).filter(named);
        if let Some(id) = by_id.or_else(|| self.btf.find_struct(&export.name)) {
            return self.formats.type_from_btf(self.btf, id).map(Some);
        }
        let members: Option<Vec<_>> = export
            .members
            .iter()
            .map(|member| {
                let llvm_type = member.llvm_type.as_deref().unwrap_or("");
                Some((member.name.as_str(), member.type_text.as_str(), llvm_type, member.bit_offset?))
            })
            .collect();
        match members.filter(|members| !members.is_empty()) {
            Some(members) => Type::from_c_members(&export.name, export.size as usize, &members).map(Some),
            None => {
                let text =
                    format!("the object has no struct {:?}; its events are delivered raw", export.name);
                self.log.write(Level::Warn, &text);
                Ok(None)
            }
        }
    }

    /// Returns the value type in a ring buffer's definition, otherwise the only struct of the object without another use.
    fn infer(&mut self, map: &Map) -> Option<Arc<Type>> {
        if map.kind == map_type::RINGBUF && self.btf.is_value(map.value_type_id) {
            return self
                .formats
                .type_from_btf(self.btf, self.btf.typedef_of_untagged(map.value_type_id))
                .ok();
        }
        let (btf, object) = (self.btf, &self.package.object);
        let ext = || elf::sections(object, ".BTF.ext").and_then(|found| found.first().copied());
        let find = || btf.event_candidates(ext());
        let candidates = self.candidates.get_or_insert_with(find).clone();
        if let ([only], 1) = (candidates.as_slice(), self.buffers) {
            return self.formats.type_from_btf(btf, *only).ok();
        }
        let names: Vec<_> = candidates.iter().filter_map(|id| btf.name(*id)).collect();
        self.raw(map, &names);
        None
    }

    fn raw(&self, map: &Map, candidates: &[&str]) {
        let candidates = listed(candidates.iter().map(|name| name.to_string()).collect());
        let text = format!(
            "map {:?}: the package does not name its event type (candidates: {candidates}); delivering raw bytes",
            map.label()
        );
        self.log.write(Level::Warn, &text);
    }
}
