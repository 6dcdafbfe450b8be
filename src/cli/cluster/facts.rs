//! What a cluster tells of itself: `cluster.json` in its folder. Whether it lives, its lock tells.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::engines::Engines;
use crate::net::FACTS_FILE;

/// A cluster, as it was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) name: String,
    /// The process of its controller.
    pub(crate) pid: u32,
    /// The machine that this is on.
    pub(crate) host: String,
    pub(crate) started_unix_s: u64,
    pub(crate) engines: Engines,
    /// How many engines it was started with.
    pub(crate) count: usize,
    /// Where it listens.
    pub(crate) address: String,
    /// The version of callboard.
    pub(crate) version: String,
}

impl Facts {
    pub(super) fn of_this_process(name: String, engines: Engines, count: usize, address: String) -> Self {
        let (pid, version) = (std::process::id(), env!("CARGO_PKG_VERSION").into());
        Self { name, pid, host: host(), started_unix_s: unix_s(), engines, count, address, version }
    }

    /// Writes them into the folder of their cluster. Who reads them meanwhile has none, or all.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join(format!("{FACTS_FILE}.new"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all((serde_json::to_string_pretty(self)? + "\n").as_bytes())?;
        fs::rename(new, folder.join(FACTS_FILE))
    }

    /// Reads them; a cluster that is starting, or came to nothing, has none.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(FACTS_FILE)).ok()?).ok()
    }

    /// Returns for how long the cluster has run.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_secs(unix_s().saturating_sub(self.started_unix_s))
    }

    /// Returns whether it is of another machine, which has the same folder.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.host != host()
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Writes a time as people say it: its two largest units.
pub(crate) fn in_words(time: Duration) -> String {
    let s = time.as_secs();
    match (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, min, s) => format!("{min} min {s} s"),
        (0, h, min, _) => format!("{h} h {min} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        let cases = [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")];
        for (s, expected) in cases {
            assert_eq!(in_words(Duration::from_secs(s)), expected);
        }
    }
}
