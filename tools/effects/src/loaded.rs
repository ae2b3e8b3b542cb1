//! Finds out what the programs of a loaded package could do, from the instructions that the kernel has received.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use eunomia::Vm;
use eunomia::btf::Btf;
use eunomia::vm::{LoadedCode, LoadedMap, ProgCode, ProgInfo};

use crate::{Code, Findings, Loaded, Program};

/// The types of the running kernel. They are read only when a program calls a kernel function, because they take 5 MB.
#[derive(Default)]
pub struct KernelTypes(OnceCell<Option<Btf>>);

impl KernelTypes {
    fn name(&self, id: u32) -> Option<String> {
        let read = || Btf::parse(&std::fs::read("/sys/kernel/btf/vmlinux").ok()?).ok();
        Some(self.0.get_or_init(read).as_ref()?.name(id)?.to_owned())
    }

    /// The findings about a loaded program. `maps` are the names of its maps by their numbers.
    fn findings(
        &self,
        info: &ProgInfo,
        own: &ProgCode,
        maps: &BTreeMap<i32, String>,
        pinned: &dyn Fn(&str) -> Option<String>,
    ) -> Findings {
        let ids = Loaded { map: &|number| maps.get(&number).cloned(), kfunc: &|id| self.name(id) };
        let code = Code::of_loaded(&own.instructions, &ids);
        let program = Program { kind: info.kind, attach_type: own.attach_type };
        Findings::of(&code, &program, pinned)
    }
}

/// Collects the findings about loaded programs.
#[derive(Default)]
pub struct Effects {
    /// The findings about each program, by its name.
    pub by_program: BTreeMap<String, Findings>,
    types: KernelTypes,
}

impl Effects {
    /// Adds the loaded program at `index` of a vm. `pinned` returns the path of a pinned map.
    pub fn add(
        &mut self,
        vm: &Vm,
        index: usize,
        pinned: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), eunomia::Error> {
        let (info, own) = (vm.prog_at(index)?, vm.prog_code_at(index)?);
        let mut maps = BTreeMap::new();
        for map in 0..vm.map_count()? {
            if let Some(number) = vm.map_number_at(map)? {
                maps.insert(number, vm.map_at(map)?.name.to_string_lossy().into_owned());
            }
        }
        let found = self.types.findings(&info, &own, &maps, pinned);
        self.by_program.insert(info.name.to_string_lossy().into_owned(), found);
        Ok(())
    }
}

/// A loaded program and the findings about it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its name.
    pub name: String,
    /// BPF_PROG_TYPE_*.
    pub kind: u32,
    /// The findings.
    pub findings: Findings,
}

/// The findings about each loaded program.
pub fn judge(loaded: &LoadedCode, types: &KernelTypes) -> Vec<Judged> {
    let named = |map: &LoadedMap| (map.number, map.name.clone());
    let maps: BTreeMap<i32, String> = loaded.maps.iter().map(named).collect();
    let pinned = |name: &str| {
        let path = loaded.maps.iter().find(|map| map.name == name)?.pin_path.as_ref()?;
        Some(path.to_string_lossy().into_owned())
    };
    let judged = loaded.programs.iter().map(|(info, own)| {
        let findings = types.findings(info, own, &maps, &pinned);
        Judged { name: info.name.to_string_lossy().into_owned(), kind: info.kind, findings }
    });
    judged.collect()
}
