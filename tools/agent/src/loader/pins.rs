//! Removes the pins that a package has created for its maps, if the package is refused after that.

use std::path::PathBuf;

use eunomia::{Kind, Options, Result, Vm};

/// The paths at which a load will pin maps, and at which no file exists yet. The files are removed when this
/// is dropped.
pub struct NewPins(Vec<PathBuf>);

impl NewPins {
    /// The new pins of a package that is opened and not loaded.
    pub fn of(vm: &Vm) -> Result<NewPins> {
        let mut paths = Vec::new();
        for index in 0..vm.map_count()? {
            paths.extend(vm.map_pin_path_at(index)?.filter(|path| path.symlink_metadata().is_err()));
        }
        Ok(NewPins(paths))
    }

    /// The new pins of a package.
    pub fn of_package(package: &[u8]) -> Result<NewPins> {
        let vm = Vm::new(Options::new())?;
        vm.open(package, Kind::Json)?;
        NewPins::of(&vm)
    }

    /// Keeps the pins, because the package runs.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for NewPins {
    fn drop(&mut self) {
        for path in &self.0 {
            // A load that failed early has not created the file.
            let _ = std::fs::remove_file(path);
        }
    }
}
