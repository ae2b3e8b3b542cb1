//! The first program: opens a package, sets a variable, prints one event and ends.
//!
//! usage: first PACKAGE   (that of examples/bpf/bootstrap)

use eunomia::{Format, Kind, Options, Result, Vm};

fn main() -> Result<()> {
    let vm = Vm::new(Options::new())?;
    vm.open_file(std::env::args().nth(1).unwrap_or_default(), Kind::Json)?;
    vm.var_set_json("min_duration_ns", "1000")?;
    vm.attach()?;
    if let Some(event) = vm.events(Format::Json).next() {
        println!("{}", event?.text());
    }
    Ok(())
}
