//! The commands of ecli, one file each. A command reads its options and calls the modules in the parent directory; none
//! of those imports a command.

pub mod check;
pub mod client;
pub mod doctor;
pub mod inspect;
pub mod manual;
pub mod registry;
pub mod run;
pub mod server;
pub mod signing;
pub mod wasm;
