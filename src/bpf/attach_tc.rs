//! Attaches programs for traffic control (tc, tcx, netkit) to a network interface. Dropping the link detaches; see `sys/tc.rs`
//! for classic filters.

use std::sync::Arc;

use super::new_link::{create_link, interface, lacks_keys};
use super::sys::attach::Link;
use super::sys::object::ProgRef;
use crate::error::{Hint, Result};
use crate::log::Log;
use crate::os;
use crate::package::{Target, Tc, TcPoint};

/// Attaches by tcx or netkit if the section names one of them, and otherwise by a classic filter.
pub(super) fn attach(prog: ProgRef<'_>, target: &Target, log: &Arc<Log>) -> Result<Vec<Link>> {
    const BPF_TC_INGRESS: u32 = 1;
    const BPF_TC_EGRESS: u32 = 2;
    let (index, place) = interface(prog, target)?;
    let section = prog.section_name();
    if section.starts_with("tcx/") || section.starts_with("tc/") {
        return create_link(prog, &place, log, &|| prog.attach_tcx(index));
    }
    if section.starts_with("netkit/") {
        return create_link(prog, &place, log, &|| prog.attach_netkit(index));
    }
    let point = match target.tc.point {
        TcPoint::Ingress => BPF_TC_INGRESS,
        TcPoint::Egress => BPF_TC_EGRESS,
        TcPoint::Custom => {
            return Err(lacks_keys(prog, "\"attach_point\": \"BPF_TC_INGRESS\" or \"BPF_TC_EGRESS\""));
        }
    };
    let (handle, priority) = (target.tc.handle, target.tc.priority);
    let attached = create_link(prog, &place, log, &|| prog.attach_tc(index, point, handle, priority));
    attached.map_err(|e| match e.errno() {
        Some(libc::EEXIST) => e
            .with_reason(format_args!(
                "a filter with handle {handle} and priority {priority} exists already and belongs to another program \
                 or a running host"
            ))
            .with_hint(Hint::Text(format!("to remove it: {}", removal(index, &target.tc)))),
        _ => e,
    })
}

/// Returns the command that removes a filter.
fn removal(index: u32, tc: &Tc) -> String {
    let interface = os::interface_name(index).unwrap_or_default();
    let direction = if tc.point == TcPoint::Egress { "egress" } else { "ingress" };
    format!("tc filter del dev {interface} {direction} pref {} handle {:#x} bpf", tc.priority, tc.handle)
}
