//! What the programs of a loaded package could do, by the instructions that the kernel has verified.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use eunomia::Vm;
use eunomia::btf::Btf;

use crate::{Code, Findings, Loaded, Program};

/// Where the kernel has its types.
const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Collects the findings about loaded programs.
#[derive(Default)]
pub struct Effects {
    /// The findings about each program, by its name.
    pub by_program: BTreeMap<String, Findings>,
    /// The BTF of the kernel, read when a program calls a kernel function.
    types: OnceCell<Option<Btf>>,
}

impl Effects {
    /// Adds the program at `index` of a vm, which is loaded. `pinned` returns the path of a pinned map.
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
        let types = || Btf::parse(&std::fs::read(TYPES).ok()?).ok();
        let kfunc = |id| Some(self.types.get_or_init(types).as_ref()?.name(id)?.to_owned());
        let loaded = Loaded { map: &|number| maps.get(&number).cloned(), kfunc: &kfunc };
        let code = Code::of_loaded(&own.instructions, &loaded);
        let program = Program { kind: info.kind, attach_type: own.attach_type };
        let found = Findings::of(&code, &program, pinned);
        self.by_program.insert(info.name.to_string_lossy().into_owned(), found);
        Ok(())
    }
}
