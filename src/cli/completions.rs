//! `callboard completions`: what completes the command in a shell.

use std::io::{Write, stdout};

use clap::Command;
use clap_complete::Shell;

use super::exit::Failure;
use super::program::Program;

/// For which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  {program} completions bash > ~/.local/share/bash-completion/completions/{program}
  source <({program} completions bash)                      for this shell only
  {program} completions zsh > ~/.zfunc/_{program}           with ~/.zfunc in fpath
  {program} completions fish > ~/.config/fish/completions/{program}.fish";

/// Prints it.
pub(crate) fn print(args: &Args, mut command: Command, program: &Program) -> Result<(), Failure> {
    // Whole in memory first: what writes it panics where nobody reads.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, program.to_string(), &mut script);
    Ok(stdout().write_all(&script)?)
}
