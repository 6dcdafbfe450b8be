//! Connection files: what a peer needs to find its cluster and to be let in, and nobody else may read.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::task::drawn;
use crate::wire::handshake::Role;

/// The version of the format.
const VERSION: u32 = 1;

/// A file that is longer is none of ours.
const BYTES_MAX: u64 = 64 << 10;

/// The path of what comes on the standard input.
const STDIN: &str = "-";

/// The last second of the year 9999, since 1970: certificates can tell none later.
const EXPIRES_UNIX_S_MAX: u64 = 253_402_300_799;

/// What is in a connection file. The controller has one too: with the authority's key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectionFile {
    /// The version of the format.
    callboard: u32,
    pub(crate) role: Role,
    /// The cluster, as 16 hexadecimal digits.
    cluster: String,
    /// Where the controller listens: host and port.
    pub(crate) address: String,
    /// Until when the certificate counts, in seconds since 1970.
    pub(crate) expires_unix_s: u64,
    /// By what the two sides know each other; `None` where the controller speaks plain TCP, within one machine.
    pub(crate) tls: Option<Credentials>,
    /// Which launch the engine is of that this was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) launch: Option<Launch>,
}

/// Which launch an engine is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Launch {
    /// Drawn for each.
    pub(crate) number: u64,
    /// The file comes on the standard input, and when that ends the engine is to leave.
    pub(crate) is_leashed: bool,
}

/// By what a peer knows its cluster, and is known.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// The certificate of the cluster's authority, in PEM.
    pub(crate) authority: String,
    /// This peer's own certificate, in PEM.
    pub(crate) certificate: String,
    /// Its key, in PEM. Whoever has it is let in.
    pub(crate) key: String,
}

impl ConnectionFile {
    pub(crate) fn new(role: Role, cluster: u64, address: &str, expires: SystemTime, tls: Option<Credentials>) -> Self {
        Self {
            callboard: VERSION,
            role,
            cluster: format!("{cluster:016x}"),
            address: address.into(),
            expires_unix_s: unix_s(expires),
            tls,
            launch: None,
        }
    }

    /// Returns the same for an engine of this launch.
    pub(crate) fn for_launch(&self, number: u64, is_leashed: bool) -> Self {
        Self { launch: Some(Launch { number, is_leashed }), ..self.clone() }
    }

    /// Returns what is in the file, in one line: what goes to an engine's standard input.
    pub(crate) fn text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|text| text + "\n")
    }

    /// Returns for how long it counts from now on.
    pub(crate) fn left(&self) -> Duration {
        Duration::from_secs(self.expires_unix_s.saturating_sub(unix_s(SystemTime::now())))
    }

    pub(crate) fn cluster(&self) -> u64 {
        // `read` has looked at it.
        u64::from_str_radix(&self.cluster, 16).unwrap_or_default()
    }

    /// Reads the file of a peer of this role.
    ///
    /// # Errors
    /// [`Error::ConnectionFile`], with what is wrong with it and what to do.
    pub(crate) fn read(path: &Path, role: Role) -> Result<Self, Error> {
        let wrong = |problem: String| Error::ConnectionFile { path: path.into(), problem: problem.into() };
        let no_file = |error: serde_json::Error| format!("it is no connection file: {error}");
        let file: Self = if path == Path::new(STDIN) {
            read_stdin().map_err(|error| wrong(format!("as the standard input, {}", no_file(error))))?
        } else {
            serde_json::from_str(&read_private(path, role).map_err(wrong)?).map_err(|error| wrong(no_file(error)))?
        };
        file.check(role, SystemTime::now()).map_err(wrong)?;
        Ok(file)
    }

    fn check(&self, role: Role, now: SystemTime) -> Result<(), String> {
        if self.callboard != VERSION {
            let theirs = self.callboard;
            return Err(format!(
                "its format is version {theirs}, and {VERSION} is understood here; use the callboard that wrote it"
            ));
        }
        if self.role != role.certified() {
            return Err(format!(
                "it is for {}, and this is {}; take the other file",
                self.role.with_article(),
                role.with_article()
            ));
        }
        if u64::from_str_radix(&self.cluster, 16).is_err() {
            return Err("its cluster is no number of 16 hexadecimal digits".into());
        }
        if self.expires_unix_s > EXPIRES_UNIX_S_MAX {
            let problem = "the moment at which it expires is beyond the year 9999, and no controller has written that";
            return Err(match role {
                Role::Controller => format!("{problem}; listen in another directory, or put back what was there"),
                Role::Engine | Role::Client | Role::Host => format!("{problem}; copy it from the controller again"),
            });
        }
        // A controller makes new files when its own has expired.
        let late = unix_s(now).saturating_sub(self.expires_unix_s);
        if late > 0 && role != Role::Controller {
            return Err(format!(
                "it expired {} hours ago; have the controller write new ones (by Listening::renew, or a new start)",
                late.div_ceil(3_600)
            ));
        }
        Ok(())
    }

    /// Writes the file, for this user only, in place of one that may be there.
    ///
    /// # Errors
    /// [`Error::ConnectionFile`].
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let written =
            serde_json::to_string_pretty(self).map_err(io::Error::other).and_then(|text| write_private(path, &text));
        written.map_err(|error| Error::ConnectionFile {
            path: path.into(),
            problem: format!("it cannot be written: {error}").into(),
        })
    }
}

fn unix_s(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Reads a file from the standard input, and not a byte behind it: what comes there is the end of it, sooner or later.
fn read_stdin() -> Result<ConnectionFile, serde_json::Error> {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(serde_json::Error::io)?;
    let mut reader = serde_json::Deserializer::from_reader(File::from(stdin).take(BYTES_MAX));
    ConnectionFile::deserialize(&mut reader)
}

/// Reads a file that is ours, and that nobody else can read.
fn read_private(path: &Path, role: Role) -> Result<String, String> {
    let mut options = OpenOptions::new();
    options.read(true);
    // A pipe that nobody writes to would be waited for.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let mut file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "it is not there; the controller writes it when it begins to listen, to be copied to where it is needed"
                .into()
        }
        _ => format!("it cannot be read: {error}"),
    })?;
    let metadata = file.metadata().map_err(|error| format!("it cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err("it is no file".into());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        // An administrator can read that of any user, who has the key in it.
        let (theirs, ours) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if theirs != ours {
            let problem = format!("it belongs to user {theirs}, who has the key in it, and this is user {ours}");
            return Err(match role {
                Role::Controller => format!("{problem}; listen in a directory that only {ours} writes to"),
                Role::Engine | Role::Client | Role::Host => format!("{problem}; take a copy that belongs to {ours}"),
            });
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(format!("others may read the key in it (mode {mode:04o}); chmod 600 it"));
        }
    }
    if metadata.len() > BYTES_MAX {
        return Err(format!(
            "it is no connection file: it has {} bytes, and these have at most {BYTES_MAX}",
            metadata.len()
        ));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| format!("it is no connection file: {error}"))?;
    Ok(text)
}

/// Writes a file that nobody else can read at any moment. Who reads it meanwhile has the old one or the new, whole.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    // Drawn: several threads may write one, and so may processes that have the same number, each in a container.
    new.push(format!(".{:016x}.new", drawn()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // What cannot be made is another's, and stays.
    let mut file = options.open(&new)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
    written.inspect_err(|_| drop(fs::remove_file(&new)))
}

impl fmt::Debug for ConnectionFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        write!(f, "<ConnectionFile of {} of cluster {} at {}>", self.role.with_article(), self.cluster, self.address)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(expires: SystemTime) -> ConnectionFile {
        let [authority, certificate, key] = ["authority", "certificate", "secret key"].map(String::from);
        let credentials = Credentials { authority, certificate, key };
        ConnectionFile::new(Role::Engine, 7, "localhost:1", expires, Some(credentials))
    }

    fn problem(path: &Path, role: Role) -> String {
        ConnectionFile::read(path, role).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_private_whole_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.json");
        for hours in [1, 2] {
            let expires = SystemTime::now() + Duration::from_secs(3_600 * hours);
            file(expires).write(&path).unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            let read = ConnectionFile::read(&path, Role::Engine).unwrap();
            assert_eq!((read.cluster(), &*read.address), (7, "localhost:1"));
            assert_eq!(read.tls.as_ref().unwrap().key, "secret key");
            assert_eq!(read.expires_unix_s, unix_s(expires));
            assert!(!format!("{read:?}").contains("secret"));
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left there");
        let nowhere = directory.path().join("nowhere/engine.json");
        assert!(file(SystemTime::now()).write(&nowhere).unwrap_err().to_string().contains("cannot be written"));
    }

    #[test]
    fn who_writes_a_file_at_the_same_time_is_in_nobodys_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.json");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        file(SystemTime::now() + Duration::from_secs(3_600)).write(&path).unwrap();
                        ConnectionFile::read(&path, Role::Engine).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left there");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.json");
        assert!(problem(&path, Role::Engine).contains("it is not there; the controller writes it"));
        assert!(problem(directory.path(), Role::Engine).contains("it is no file"));
        let good = file(SystemTime::now() + Duration::from_secs(3_600));
        good.write(&path).unwrap();
        let told = problem(&path, Role::Client);
        assert!(told.contains("it is for an engine, and this is a client") && told.contains("engine.json"), "{told}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(problem(&path, Role::Engine).contains("(mode 0640); chmod 600 it"));
        let cases = [
            (String::from("{"), "it is no connection file: EOF"),
            (String::from("x").repeat(100_000), "it has 100000 bytes"),
            (serde_json::to_string(&good).unwrap().replace("\"role\"", "\"rule\""), "unknown field `rule`"),
            (
                serde_json::to_string(&ConnectionFile { callboard: 9, ..good.clone() }).unwrap(),
                "its format is version 9",
            ),
            (serde_json::to_string(&ConnectionFile { cluster: "x".into(), ..good }).unwrap(), "16 hexadecimal digits"),
            (
                serde_json::to_string(&file(SystemTime::now() - Duration::from_secs(7_000))).unwrap(),
                "it expired 2 hours ago; have the controller write new ones",
            ),
        ];
        for (text, expected) in cases {
            write_private(&path, &text).unwrap();
            let told = problem(&path, Role::Engine);
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn a_file_of_another_user_is_not_taken_also_by_the_administrator() {
        const NOBODY: u32 = 65_534;
        if !rustix::process::geteuid().is_root() {
            println!("only the administrator can give files away: none was");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.json");
        for (role, to_do) in [
            (Role::Controller, "listen in a directory that only 0 writes to"),
            (Role::Engine, "take a copy that belongs to 0"),
            (Role::Client, "take a copy that belongs to 0"),
        ] {
            let file = ConnectionFile { role, ..file(SystemTime::now() + Duration::from_secs(3_600)) };
            file.write(&path).unwrap();
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            let told = problem(&path, role);
            assert!(told.contains("it belongs to user 65534") && told.contains("this is user 0"), "{told}");
            assert!(told.contains(to_do), "{told}");
            // The group does not matter: it may not read the file.
            std::os::unix::fs::chown(&path, Some(0), Some(NOBODY)).unwrap();
            assert!(ConnectionFile::read(&path, role).is_ok());
        }
    }

    #[test]
    fn a_file_expires_at_a_moment_that_a_certificate_can_tell() {
        let file = |role, expires_unix_s| ConnectionFile { role, expires_unix_s, ..file(SystemTime::now()) };
        let check = |role, expires| file(role, expires).check(role, SystemTime::now());
        for (role, to_do) in [
            (Role::Controller, "listen in another directory"),
            (Role::Engine, "copy it from the controller again"),
            (Role::Client, "copy it from the controller again"),
        ] {
            assert_eq!(check(role, EXPIRES_UNIX_S_MAX), Ok(()));
            for expires in [EXPIRES_UNIX_S_MAX + 1, u64::MAX] {
                let told = check(role, expires).unwrap_err();
                assert!(told.contains("beyond the year 9999") && told.contains(to_do), "{told}");
            }
        }
    }
}
