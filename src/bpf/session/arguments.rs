//! The command line of a package: its options set variables and sizes of maps.

use serde_json::Value;

use super::Session;
use crate::error::{Error, Result, Status};
use crate::log::Level;
use crate::package::args::{self, ArgText, ParsedArgs};
use crate::package::{MAPS, compact};
use crate::types::parse_text;

impl Session {
    /// Sets variables from the command line. Returns true if the command line requests help or version instead.
    pub fn set_args(&mut self, argv: &[String]) -> Result<bool> {
        let specs = args::specs(&self.package.meta);
        self.requested_text = None;
        let (set, verbose) = match args::parse(&specs, argv)? {
            ParsedArgs::Run { set, verbose } => (set, verbose),
            ParsedArgs::Help => return Ok(true),
            ParsedArgs::Version => {
                self.requested_text = Some(args::version(&self.package.meta));
                return Ok(true);
            }
        };
        if verbose {
            self.log.set_level(Level::Debug);
        }
        let (mut values, mut sizes) = (Vec::new(), Vec::new());
        for (name, text) in set {
            // Looked up by name, because a search for each option would take quadratic time.
            let is_map = !self.opened.has_var(&name);
            if is_map && self.package.meta.vars.iter().any(|var| var.section == MAPS && var.name == name) {
                let size = size_in(&text).map_err(|e| e.about_map(&name))?;
                sizes.push((name, size));
                continue;
            }
            let value = match text {
                ArgText::Bool(on) => Value::Bool(on),
                ArgText::Json(value) => value,
                ArgText::Text(text) => {
                    parse_text(&self.opened.var(&name)?.ty, &text).map_err(|e| e.about_variable(&name))?
                }
            };
            values.push((name, value));
        }
        sizes.iter().try_for_each(|(name, count)| self.set_max_entries(name, *count))?;
        values.iter().try_for_each(|(name, value)| self.set_var_json(name, value))?;
        let set = values.iter().map(|(name, _)| self.opened.var_index(name));
        (self.args, self.set_by_args) = (argv.to_vec(), set.collect::<Result<_>>()?);
        Ok(false)
    }

    /// Returns the text for `--help`, or for `--version` if the last command line requested that.
    pub fn args_help(&self) -> String {
        if let Some(text) = &self.requested_text {
            return text.clone();
        }
        let meta = &self.package.meta;
        let name = if meta.obj_name.is_empty() { "program" } else { &meta.obj_name };
        args::help(meta, &args::specs(meta), name)
    }
}

/// Parses a number of entries, from the command line or a default in the package.
fn size_in(text: &ArgText) -> Result<u32> {
    let text = match text {
        ArgText::Text(text) => text.clone(),
        ArgText::Json(value) => compact(value),
        ArgText::Bool(_) => String::new(),
    };
    text.parse().map_err(|_| Error::new(Status::Inval, format_args!("{text:?} is not a number of entries")))
}
