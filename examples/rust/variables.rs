//! Sets variables of the example "opensnoop" before it runs, and reads its maps afterwards.
//!
//! usage: variables target/packages/opensnoop/package.json

use std::error::Error;
use std::fs::File;
use std::time::Duration;

use eunomia::{Event, Flow, Format, Kind, Options, Vm};

fn print(event: &Event) -> Flow {
    println!("{}", String::from_utf8_lossy(event.data));
    Flow::Continue
}

fn main() -> Result<(), Box<dyn Error>> {
    let package = std::env::args().nth(1).ok_or("usage: variables PACKAGE")?;
    let vm = Vm::new(Options::new())?;
    vm.open_file(&package, Kind::Json)?;
    println!("targ_failed {}", vm.var_get_json("targ_failed")?);

    // Constants must be set before load: one as bytes, one as JSON.
    vm.var_set("targ_pid", &std::process::id().to_ne_bytes())?;
    vm.var_set_json("targ_failed", "true")?;
    vm.attach()?;

    // With targ_failed, only the second open is reported.
    File::open("/proc/self/stat")?;
    if let Err(error) = File::open("/nothing/here") {
        println!("expected: {error}");
    }
    vm.poll(Some(Duration::from_secs(1)), Format::Json, &mut print)?;

    for index in 0..vm.map_count()? {
        let map = vm.map_at(index)?;
        println!("map {} {}", map.name.to_string_lossy(), map.max_entries);
    }
    println!("opens under way: {}", vm.map_each("started", Format::Json, &mut print)?);
    Ok(())
}
