//! The commands that write files from configurations; without a command, the exporter runs.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use crate::config::File;
use crate::dashboard::dashboard;
use crate::import::{self, Converted, Settings};

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Convert a configuration of ebpf_exporter, and print it
    Import {
        /// The configuration of ebpf_exporter 2
        #[arg(value_name = "FILE")]
        config: PathBuf,

        /// Its compiled BPF object, or a package with it
        #[arg(value_name = "OBJECT")]
        object: PathBuf,

        /// Keep the beginning `ebpf_exporter_` of names, so that dashboards and alerts need no changes
        #[arg(long)]
        keep_names: bool,

        /// Keep the upper edges of exp2 buckets, which are half of the true ones
        #[arg(long)]
        compatible_edges: bool,
    },

    /// Print a dashboard of Grafana with the metrics of a configuration
    Dashboard {
        /// The configuration
        #[arg(value_name = "FILE", default_value = "config.yaml")]
        config: PathBuf,
    },

    /// Write the manual page and completions for shells to PREFIX/share
    #[command(hide = true)]
    Manual {
        /// The prefix of the installation
        #[arg(value_name = "PREFIX")]
        prefix: PathBuf,
    },
}

/// Runs a command. The error is one line.
pub fn run(command: Command, line: clap::Command) -> Result<(), String> {
    match command {
        Command::Import { config, object, keep_names, compatible_edges } => {
            let converted = import::convert(&config, &object, Settings { keep_names, compatible_edges })?;
            let Converted { text, warnings } = converted;
            for warning in warnings {
                crate::say(format_args!("eunomia-exporter: warning: {}: {warning}", config.display()));
            }
            print(&text)
        }
        Command::Dashboard { config } => {
            let file = File::read(&config)?;
            let name = config.file_stem().map_or("exporter".into(), |stem| stem.to_string_lossy());
            print(&dashboard(&file, &name))
        }
        Command::Manual { prefix } => {
            eunomia_manual::write(line, &prefix).map_err(|error| format!("{}: {error}", prefix.display()))
        }
    }
}

fn print(text: &str) -> Result<(), String> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| format!("standard output: {error}"))
}
