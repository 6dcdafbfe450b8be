//! Whether there is something to read in one of a few pipes. It is asked at the end of each task, so it has to cost little:
//! asking a list that the kernel keeps takes 0.12 us on the machine measured, having it look at two pipes 0.26.

use std::fs::File;
use std::io;

use rustix::event::Timespec;
use rustix::io::Errno;

/// Pipes that are watched for something to read.
pub(super) struct Readable {
    #[cfg(target_os = "linux")]
    list: std::os::fd::OwnedFd,
    pub(super) pipes: [File; 2],
}

impl Readable {
    pub(super) fn new(pipes: [File; 2]) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        {
            use rustix::event::epoll;
            let list = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            for pipe in &pipes {
                epoll::add(&list, pipe, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
            }
            Ok(Self { list, pipes })
        }
        #[cfg(not(target_os = "linux"))]
        Ok(Self { pipes })
    }

    /// Waits until there is something.
    pub(super) fn wait(&self) -> bool {
        self.look(None)
    }

    pub(super) fn is_now(&self) -> bool {
        self.look(Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
    }

    fn look(&self, wait: Option<&Timespec>) -> bool {
        loop {
            match self.ready(wait) {
                Ok(ready) => return ready,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    #[cfg(target_os = "linux")]
    fn ready(&self, wait: Option<&Timespec>) -> Result<bool, Errno> {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 2];
        Ok(!rustix::event::epoll::wait(&self.list, &mut events, wait)?.0.is_empty())
    }

    #[cfg(not(target_os = "linux"))]
    fn ready(&self, wait: Option<&Timespec>) -> Result<bool, Errno> {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut polled = self.pipes.each_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN));
        Ok(poll(&mut polled, wait)? > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn there_is_something_from_when_it_is_written_until_it_is_read() {
        let ends = [rustix::pipe::pipe().unwrap(), rustix::pipe::pipe().unwrap()];
        let [(first, to_first), (second, to_second)] = ends.map(|(from, to)| (File::from(from), File::from(to)));
        let readable = Readable::new([first, second]).unwrap();
        let writing = [to_first, to_second];
        for (number, mut to) in writing.iter().enumerate() {
            assert!(!readable.is_now());
            to.write_all(b"some").unwrap();
            assert!(readable.is_now() && readable.wait() && readable.is_now(), "it stays there");
            assert_eq!((&readable.pipes[number]).read(&mut [0; 8]).unwrap(), 4);
        }
        assert!(!readable.is_now());
        drop(writing);
        assert!(readable.is_now(), "the end");
    }
}
