//! The log of a cluster in the background: what this process and its tasks print, in two files at most.
//!
//! Both outputs of the process are the file itself, so that its last words are there whatever ends it. A thread looks how
//! large it is when something was written: then it becomes the one before, and another is begun.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::net::{Folder, LOG_FILE, OLD_LOG_FILE, open_log};

/// How large a file may become, in bytes; and then what is written while nobody looks.
const BYTES_MAX: u64 = 16 << 20;

/// How long nobody looks.
const BREATH: Duration = Duration::from_millis(10);

/// The log. Its files are those of the folder, and stay when this is dropped; but they do not change places any more.
pub(super) struct LogFile {
    path: PathBuf,
    is_over: Arc<Mutex<bool>>,
}

impl LogFile {
    /// Has what this process prints go into the log from now on.
    pub(super) fn begin(folder: &Folder) -> io::Result<Self> {
        let path = folder.path().join(LOG_FILE);
        print_into(&path)?;
        let is_over = Arc::<Mutex<bool>>::default();
        let (watched, end) = (path.clone(), is_over.clone());
        thread::Builder::new().name("cb-log-size".into()).spawn(move || keep_bounded(&watched, &end))?;
        Ok(Self { path, is_over })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        *self.is_over.lock() = true;
    }
}

fn print_into(path: &Path) -> io::Result<()> {
    let log = open_log(path)?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}

/// Begins another file whenever one is full, until it is over.
fn keep_bounded(path: &Path, is_over: &Mutex<bool>) {
    loop {
        let written = Written::to(path);
        while bytes(path) < BYTES_MAX {
            written.wait();
            thread::sleep(BREATH);
            if *is_over.lock() {
                return;
            }
        }
        // Nobody removes the folder meanwhile.
        let is_over = is_over.lock();
        if *is_over {
            return;
        }
        let begun = fs::rename(path, path.with_file_name(OLD_LOG_FILE)).and_then(|()| print_into(path));
        drop(is_over);
        match begun {
            Ok(()) => tracing::info!(before = OLD_LOG_FILE, "the log goes on in another file"),
            Err(error) => return tracing::warn!(%error, "the log grows without a bound from now on"),
        }
    }
}

fn bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Tells when something was written to a file, where the system tells it; else one looks now and then.
struct Written(#[cfg(target_os = "linux")] Option<File>);

impl Written {
    #[cfg(target_os = "linux")]
    fn to(path: &Path) -> Self {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let watch = init(CreateFlags::CLOEXEC).and_then(|told| {
            add_watch(&told, path, WatchFlags::MODIFY)?;
            Ok(File::from(told))
        });
        Self(watch.ok())
    }

    #[cfg(target_os = "linux")]
    fn wait(&self) {
        use std::io::Read;
        // Room for many: those that came while nobody looked are one.
        let mut events = [0; 4 << 10];
        let told = self.0.as_ref().is_some_and(|mut told| told.read(&mut events).is_ok());
        if !told {
            thread::sleep(NOW_AND_THEN);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn to(_: &Path) -> Self {
        Self()
    }

    #[cfg(not(target_os = "linux"))]
    fn wait(&self) {
        thread::sleep(NOW_AND_THEN);
    }
}

/// How often one looks by oneself.
const NOW_AND_THEN: Duration = Duration::from_secs(1);
