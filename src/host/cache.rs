//! The programs that a host has: files named after what is in them, no more of them than there is room for.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

use super::program::{ProgramHash, sound_name};

/// Programs in a directory: `programs/HASH/NAME` each.
pub(super) struct Cache {
    directory: PathBuf,
    bytes_max: u64,
    programs: BTreeMap<ProgramHash, Kept>,
    /// Held while this host is there: no other uses the directory.
    _lock: File,
}

/// A program that is there.
struct Kept {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
    /// How many run.
    running: usize,
}

impl Cache {
    /// Takes a directory for this host, which makes it if there is none; drops what is too much there.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub(super) fn open(directory: &Path, bytes_max: u64) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{} cannot be used: {error}", directory.display());
        let private = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed);
        private(&directory.join("programs"))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(directory.join("lock"));
        let lock = lock.map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            format!("{} is another host's, which runs; name another directory with --cache", directory.display())
        })?;
        // Now that no other host runs there: what was left by one that was killed.
        let _ = fs::remove_dir_all(directory.join("runs"));
        private(&directory.join("runs"))?;
        let mut cache = Self { directory: directory.into(), bytes_max, programs: BTreeMap::new(), _lock: lock };
        cache.look().map_err(failed)?;
        cache.make_room(0);
        Ok(cache)
    }

    /// Finds what is there; what is no program's is removed.
    fn look(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(self.directory.join("programs"))? {
            let folder = entry?.path();
            let hash = folder.file_name().and_then(|name| ProgramHash::parse(name.to_str()?));
            match hash.zip(only_file(&folder)) {
                Some((hash, (path, bytes, used))) => {
                    drop(self.programs.insert(hash, Kept { path, bytes, used, running: 0 }))
                }
                None => drop(fs::remove_dir_all(&folder)),
            }
        }
        Ok(())
    }

    pub(super) fn hashes(&self) -> Vec<ProgramHash> {
        self.programs.keys().copied().collect()
    }

    /// Returns where a folder for something that runs is made.
    pub(super) fn run_folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.directory.join("runs").join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// Keeps a program, if it is the one that it is said to be; `gone` get those that had to go for it, also where it is not kept.
    ///
    /// # Errors
    /// A sentence about why not.
    pub(super) fn keep(
        &mut self,
        hash: ProgramHash,
        name: &str,
        program: &[u8],
        gone: &mut Vec<ProgramHash>,
    ) -> Result<(), String> {
        let found = ProgramHash::of(program);
        if found != hash {
            return Err(format!("what came is not the program that was announced: its hash is {found}, not {hash}"));
        }
        if self.programs.contains_key(&hash) {
            return Ok(());
        }
        let (bytes, max) = (program.len() as u64, self.bytes_max);
        if bytes > max {
            return Err(format!(
                "the program has {bytes} bytes, and the host keeps at most {max} of programs (--cache-mib)"
            ));
        }
        gone.extend(self.make_room(bytes));
        let taken: u64 = self.programs.values().map(|kept| kept.bytes).sum();
        if taken + bytes > max {
            return Err(format!(
                "the program has {bytes} bytes, and there is no room for it: {taken} of {max} are of programs that run"
            ));
        }
        let folder = self.directory.join("programs").join(hash.to_string());
        let (part, path) = (self.directory.join("part"), folder.join(sound_name(name)));
        let written = write_whole(&part, program).and_then(|()| {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            fs::rename(&part, &path)
        });
        if let Err(error) = written {
            let _ = fs::remove_file(&part);
            let _ = fs::remove_dir_all(&folder);
            return Err(format!("the program cannot be kept at {}: {error}", path.display()));
        }
        self.programs.insert(hash, Kept { path, bytes, used: SystemTime::now(), running: 0 });
        Ok(())
    }

    /// Returns where a program is that is about to run; it is there until [`on_ended`](Self::on_ended). It is looked at again: a
    /// disk may have changed it.
    ///
    /// # Errors
    /// A sentence about why it does not run; it is not there any more then.
    pub(super) fn begin(&mut self, hash: ProgramHash) -> Result<PathBuf, String> {
        let kept = self.programs.get_mut(&hash).ok_or("the host has it no more")?;
        if kept.running == 0 {
            let wrong = match fs::read(&kept.path) {
                Ok(program) if ProgramHash::of(&program) == hash => None,
                Ok(_) => Some("the file that was kept of it is damaged".to_owned()),
                Err(error) => Some(format!("the file that was kept of it cannot be read: {error}")),
            };
            if let Some(wrong) = wrong {
                self.remove(hash);
                return Err(format!("{wrong}; it is removed, so start it once more"));
            }
            kept.used = SystemTime::now();
            // For the order in which programs go, also after another start of the host.
            let _ = File::open(&kept.path).and_then(|file| file.set_modified(kept.used));
        }
        kept.running += 1;
        Ok(kept.path.clone())
    }

    /// A program that was begun has ended.
    pub(super) fn on_ended(&mut self, hash: ProgramHash) {
        if let Some(kept) = self.programs.get_mut(&hash) {
            kept.running -= 1;
        }
    }

    /// Removes programs that do not run, those that were used longest ago first, until so many bytes more fit; returns which.
    fn make_room(&mut self, bytes: u64) -> Vec<ProgramHash> {
        let mut gone = Vec::new();
        while self.programs.values().map(|kept| kept.bytes).sum::<u64>() + bytes > self.bytes_max {
            let idle = self.programs.iter().filter(|(_, kept)| kept.running == 0);
            let Some(hash) = idle.min_by_key(|(_, kept)| kept.used).map(|(hash, _)| *hash) else { break };
            self.remove(hash);
            gone.push(hash);
        }
        gone
    }

    fn remove(&mut self, hash: ProgramHash) {
        if self.programs.remove(&hash).is_some() {
            let _ = fs::remove_dir_all(self.directory.join("programs").join(hash.to_string()));
        }
    }
}

/// Returns the only file of a folder, its size and when it was used last.
fn only_file(folder: &Path) -> Option<(PathBuf, u64, SystemTime)> {
    let mut entries = fs::read_dir(folder).ok()?;
    let (Some(Ok(file)), None) = (entries.next(), entries.next()) else { return None };
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some((file.path(), metadata.len(), metadata.modified().ok()?))
}

/// Writes a program, all of it to the disk.
fn write_whole(path: &Path, program: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o700).open(path)?;
    file.write_all(program)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what became of it, and which programs went.
    fn keep(cache: &mut Cache, program: &[u8]) -> (Result<(), String>, Vec<ProgramHash>) {
        let mut gone = Vec::new();
        (cache.keep(ProgramHash::of(program), "p", program, &mut gone), gone)
    }

    #[test]
    fn a_program_is_kept_verified_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let program = b"#!/bin/true".as_slice();
        let hash = ProgramHash::of(program);
        let mut cache = Cache::open(directory.path(), 1_000).unwrap();
        let run = cache.run_folder("1-0").unwrap();
        assert!(Cache::open(directory.path(), 1_000).err().unwrap().contains("another host's"));
        assert!(run.exists(), "what runs has its folder still");
        let other = cache.keep(hash, "p", b"other", &mut Vec::new());
        assert!(other.unwrap_err().contains("not the program that was announced"));
        assert_eq!(keep(&mut cache, program), (Ok(()), vec![]));
        drop(cache);
        let mut cache = Cache::open(directory.path(), 1_000).unwrap();
        assert!(!run.exists(), "nobody runs there any more");
        assert_eq!(cache.hashes(), [hash]);
        let path = cache.begin(hash).unwrap();
        assert_eq!(fs::read(&path).unwrap(), program);
        cache.on_ended(hash);
        // What a disk has changed does not run, and is not there any more.
        fs::write(&path, "#!/bin/sh -c 'echo evil'").unwrap();
        assert!(cache.begin(hash).unwrap_err().contains("damaged"));
        assert_eq!((cache.hashes(), fs::read_dir(directory.path().join("programs")).unwrap().count()), (vec![], 0));
        // And what is no program's goes at the next start.
        fs::create_dir(directory.path().join("programs/junk")).unwrap();
        drop(cache);
        Cache::open(directory.path(), 1_000).unwrap();
        assert_eq!(fs::read_dir(directory.path().join("programs")).unwrap().count(), 0);
    }

    #[test]
    fn what_was_used_longest_ago_makes_place_and_what_runs_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let programs: Vec<Vec<u8>> = (0..4).map(|n| vec![n; 400]).collect();
        let hashes: Vec<_> = programs.iter().map(|program| ProgramHash::of(program)).collect();
        let mut cache = Cache::open(directory.path(), 1_000).unwrap();
        keep(&mut cache, &programs[0]).0.unwrap();
        keep(&mut cache, &programs[1]).0.unwrap();
        cache.begin(hashes[0]).unwrap();
        assert_eq!(keep(&mut cache, &programs[2]), (Ok(()), vec![hashes[1]]));
        let (told, gone) = keep(&mut cache, &[9; 900]);
        assert!(told.unwrap_err().contains("400 of 1000 are of programs that run"));
        assert_eq!(gone, [hashes[2]], "it went for nothing, and that is told");
        assert_eq!(keep(&mut cache, &programs[2]), (Ok(()), vec![]));
        cache.begin(hashes[2]).unwrap();
        let told = keep(&mut cache, &programs[3]).0.unwrap_err();
        assert!(told.contains("400 bytes") && told.contains("800 of 1000 are of programs that run"), "{told}");
        cache.on_ended(hashes[0]);
        assert_eq!(keep(&mut cache, &programs[3]), (Ok(()), vec![hashes[0]]));
        assert!(keep(&mut cache, &[9; 1_001]).0.is_err(), "more than there is room for at all");
    }
}
