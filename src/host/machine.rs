//! What a program needs of a machine, and whether a machine has it: pure, but for looking.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use object::elf::{EM_AARCH64, EM_LOONGARCH, EM_PPC64, EM_RISCV, EM_S390, EM_X86_64};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, FileKind};
use serde::{Deserialize, Serialize};

/// A version of glibc, as 2 and 36.
type Version = (u32, u32);

/// A machine, as far as it matters for whether a program runs there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its kind of processor, as Rust calls it.
    arch: Box<str>,
    glibc: Option<Version>,
    has_musl: bool,
}

/// What a program needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    arch: Box<str>,
    libc: Libc,
}

/// The library that a program is linked with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Libc {
    /// None: it brings all that it needs.
    Static,
    /// This version, or a later one.
    Glibc(Version),
    Musl,
    /// Whatever this interpreter belongs to.
    Other(Box<str>),
}

/// Longest name of a processor or of an interpreter that a peer may tell, in bytes.
const NAME_BYTES_MAX: usize = 256;

impl Machine {
    /// Looks at the machine that this runs on.
    pub(crate) fn here() -> Self {
        let arch = std::env::consts::ARCH;
        let has_musl = Path::new(&format!("/lib/ld-musl-{arch}.so.1")).exists();
        Self { arch: arch.into(), glibc: glibc_here(), has_musl }
    }

    /// Returns in words why a program does not run here, if so.
    pub(crate) fn lacks(&self, needs: &Needs) -> Option<String> {
        let has_libc = match &needs.libc {
            Libc::Static => true,
            Libc::Glibc(version) => self.glibc.is_some_and(|glibc| glibc >= *version),
            Libc::Musl => self.has_musl,
            Libc::Other(_) => false,
        };
        let runs = self.arch == needs.arch && has_libc;
        (!runs).then(|| format!("the program is for {needs}, and the host is {self}"))
    }

    /// Returns whether a peer may have told this.
    pub(crate) fn is_sound(&self) -> bool {
        is_plain(&self.arch)
    }
}

impl Needs {
    /// Reads what a program needs out of its headers.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub(crate) fn of(program: &[u8]) -> Result<Self, String> {
        match FileKind::parse(program) {
            Ok(FileKind::Elf64) => {}
            _ => {
                return Err("it is no program for Linux on a processor of 64 bits (ELF), and hosts run no other".into());
            }
        }
        let unreadable = |error: object::Error| format!("its headers cannot be read: {error}");
        let elf = ElfFile64::<Endianness>::parse(program).map_err(unreadable)?;
        let endian = elf.endian();
        let arch = match elf.elf_header().e_machine(endian) {
            EM_X86_64 => "x86_64".into(),
            EM_AARCH64 => "aarch64".into(),
            EM_RISCV => "riscv64".into(),
            EM_PPC64 => "powerpc64".into(),
            EM_S390 => "s390x".into(),
            EM_LOONGARCH => "loongarch64".into(),
            other => format!("processor {other}").into(),
        };
        let interpreters = elf.elf_program_headers().iter();
        let interpreter = interpreters.filter_map(|header| header.interpreter(endian, program).transpose()).next();
        let libc = match interpreter.transpose().map_err(unreadable)? {
            None => Libc::Static,
            Some(path) => match String::from_utf8_lossy(path) {
                path if path.contains("ld-musl-") => Libc::Musl,
                path if path.contains("/ld-linux") || path.contains("/ld64.so") || path.contains("/ld.so") => {
                    Libc::Glibc(glibc_needed(&elf, program).map_err(unreadable)?)
                }
                path => Libc::Other(path.escape_debug().to_string().into()),
            },
        };
        Ok(Self { arch, libc })
    }

    /// Returns whether a peer may have told this.
    pub(crate) fn is_sound(&self) -> bool {
        let libc = if let Libc::Other(interpreter) = &self.libc { is_plain(interpreter) } else { true };
        is_plain(&self.arch) && libc
    }
}

/// Returns whether a name is one: it is shown to people.
fn is_plain(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && name.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ')
}

/// Returns the latest version of glibc that a program names.
fn glibc_needed(elf: &ElfFile64<'_, Endianness>, program: &[u8]) -> Result<Version, object::Error> {
    let (endian, sections) = (elf.endian(), elf.elf_section_table());
    let mut latest = (0, 0);
    let Some((mut needed, strings)) = sections.gnu_verneed(endian, program)? else { return Ok(latest) };
    let strings = sections.strings(endian, program, strings)?;
    while let Some((_, mut versions)) = needed.next()? {
        while let Some(version) = versions.next()? {
            let name = String::from_utf8_lossy(version.name(endian, strings)?);
            if let Some(version) = name.strip_prefix("GLIBC_").and_then(version_of) {
                latest = latest.max(version);
            }
        }
    }
    Ok(latest)
}

/// Asks the system which glibc it has. `getconf` comes with it.
fn glibc_here() -> Option<Version> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").stdin(Stdio::null()).stderr(Stdio::null()).output();
    version_of(String::from_utf8(told.ok()?.stdout).ok()?.trim().strip_prefix("glibc ")?)
}

/// Reads the first two numbers of a version.
fn version_of(text: &str) -> Option<Version> {
    let mut numbers = text.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let glibc = self.glibc.map(|(major, minor)| format!("glibc {major}.{minor}"));
        let libcs: Vec<_> = glibc.into_iter().chain(self.has_musl.then(|| "musl".into())).collect();
        let libcs = if libcs.is_empty() { "no libc that is known".into() } else { libcs.join(" and ") };
        write!(f, "{} with {libcs}", self.arch)
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arch = &self.arch;
        match &self.libc {
            Libc::Static => write!(f, "{arch}"),
            Libc::Glibc((major, minor)) => write!(f, "{arch} with glibc {major}.{minor} or later"),
            Libc::Musl => write!(f, "{arch} with musl"),
            Libc::Other(interpreter) => write!(f, "{arch} with {interpreter}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(arch: &str, libc: Libc) -> Needs {
        Needs { arch: arch.into(), libc }
    }

    #[test]
    fn a_machine_runs_what_it_has_the_processor_and_the_library_for() {
        let debian = Machine { arch: "x86_64".into(), glibc: Some((2, 36)), has_musl: false };
        let alpine = Machine { arch: "x86_64".into(), glibc: None, has_musl: true };
        let cases = [
            (&debian, needs("x86_64", Libc::Static), true),
            (&debian, needs("x86_64", Libc::Glibc((2, 36))), true),
            (&debian, needs("x86_64", Libc::Glibc((2, 4))), true),
            (&debian, needs("x86_64", Libc::Glibc((2, 37))), false),
            (&debian, needs("x86_64", Libc::Musl), false),
            (&debian, needs("aarch64", Libc::Static), false),
            (&debian, needs("x86_64", Libc::Other("/ld".into())), false),
            (&alpine, needs("x86_64", Libc::Static), true),
            (&alpine, needs("x86_64", Libc::Musl), true),
            (&alpine, needs("x86_64", Libc::Glibc((2, 4))), false),
        ];
        for (machine, needs, runs) in cases {
            assert_eq!(machine.lacks(&needs).is_none(), runs, "{machine}: {needs}");
        }
        assert_eq!(
            alpine.lacks(&needs("aarch64", Libc::Glibc((2, 34)))).unwrap(),
            "the program is for aarch64 with glibc 2.34 or later, and the host is x86_64 with musl"
        );
    }

    #[test]
    fn this_program_runs_on_this_machine_and_text_on_none() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = Needs::of(&program).unwrap();
        assert_eq!(&*needs.arch, std::env::consts::ARCH);
        assert_eq!(Machine::here().lacks(&needs), None, "{needs}");
        assert!(Needs::of(b"#!/bin/sh\n").unwrap_err().contains("no program for Linux"));
        assert!(Needs::of(&program[..70]).is_err());
    }
}
