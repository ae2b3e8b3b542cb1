//! Untrusted types: an object's BTF and .BTF.ext, and a kernel's BTF, each after its length in two bytes.
#![no_main]

use eunomia::btf::{Btf, Hook, Index};
use eunomia::render::Plan;
use eunomia::types::Type;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let [local, ext, kernel] = [(); 3].map(|()| piece(&mut rest));
    let Ok(btf) = Btf::parse(local) else { return };
    let is_fit = btf.check_for_libbpf().is_ok();
    btf.event_candidates(Some(ext));
    for id in 1..btf.len().min(64) {
        btf.globals(id).for_each(drop);
        if let Ok(ty) = Type::from_btf(&btf, id) {
            let _ = Plan::new(&ty);
        }
    }
    let Ok(relocations) = btf.relocations(ext) else { return };
    let hook = |name: &str, is_typedef| Hook { section: name.into(), name: name.into(), is_typedef, id: 0 };
    let mut hooks = [hook("do_unlinkat", false), hook("btf_trace_sched_switch", true)];
    let Ok(excerpt) = btf.excerpt(&relocations, &mut hooks, kernel, &mut Index::new()) else { return };
    if is_fit && Btf::parse(kernel).is_ok() {
        Btf::parse(&excerpt.btf).expect("a part of sound BTF is sound");
    }
});

fn piece<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some((len, after)) = rest.split_first_chunk() else { return std::mem::take(rest) };
    let (piece, after) = after.split_at(usize::from(u16::from_le_bytes(*len)).min(after.len()));
    *rest = after;
    piece
}
