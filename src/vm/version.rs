//! A loaded version of a package in addition to the running one: prepared, or kept.

use std::sync::Arc;

use crate::bpf::session::Session;
use crate::bpf::session::replace::Plan;
use crate::bpf::source::Sources;
use crate::types::Type;

/// A loaded version that does not run.
pub struct Version {
    pub session: Session,
    /// Its sources, before it runs.
    pub sources: Option<Sources>,
    /// All types of the vm, with those of this version.
    pub types: Vec<Arc<Type>>,
    /// The plan by which it takes over the hooks, or by which the next version has taken them over.
    pub plan: Plan,
}
