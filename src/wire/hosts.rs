//! What a controller and a host say to each other in a session: which programs the host has, and which it is to run.

use serde::{Deserialize, Serialize};

pub use crate::host::{Machine, Needs, Program, ProgramHash};

/// From a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost {
    /// Keep a program: the one buffer of this message. Goes on the bulk lane, as what is said of a program later.
    Keep {
        /// By what it is known from now on, and verified.
        hash: ProgramHash,
        /// What it is called.
        name: Box<str>,
    },
    /// Start a program, as one engine.
    Start {
        /// The number of the launch, which the engine tells when it joins.
        launch: u64,
        /// Which of the launch it is.
        job: u32,
        /// The program, which the host has.
        program: ProgramHash,
        /// Its arguments, as bytes.
        args: Vec<Vec<u8>>,
    },
    /// Have one leave: it finishes what it runs.
    Leave(u64, u32),
    /// End one, whatever it runs.
    Kill(u64, u32),
}

/// From a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromHost {
    /// What it is. Comes first.
    Here(Description),
    /// It has this program.
    Has(ProgramHash),
    /// It has it no more.
    Lacks(ProgramHash),
    /// What one has printed, of each stream the last part, whole.
    Printed {
        /// The launch.
        launch: u64,
        /// Which of it.
        job: u32,
        /// On its standard output.
        stdout: Box<str>,
        /// On its standard error.
        stderr: Box<str>,
    },
    /// One is over.
    Ended {
        /// The launch.
        launch: u64,
        /// Which of it.
        job: u32,
        /// How it ended.
        cause: Box<str>,
        /// It was not started, or has not left in good order.
        has_died: bool,
    },
}

/// What a host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// What it is called, in words.
    pub name: Box<str>,
    /// What programs run there.
    pub machine: Machine,
    /// How many engines it runs at most.
    pub engines_max: u32,
    /// It runs programs that are shipped.
    pub allows_programs: bool,
    /// Those that it has.
    pub programs: Vec<ProgramHash>,
}
