//! How a child gets what only it is to have: open files, through the socket that it is spoken to over.
//!
//! So nothing has to be inherited but standard input, output and error, and nothing is left open in children of tasks.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// How many files a child gets: the tally, and the reading ends of its standard output and error.
pub(super) const FILES: usize = 3;

/// What comes behind the files, before anything is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// Nothing.
    Nothing = 0,
    /// A call that is to be made before any task.
    Initializer = 1,
}

/// Sends files, with one byte that tells whether an initializer follows. The peer may not be there yet.
pub(super) fn hand_down(socket: &UnixStream, files: [BorrowedFd<'_>; FILES], follows: Follows) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(socket, &[IoSlice::new(&[follows as u8])], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Takes the files that were sent.
pub(super) fn take_over(socket: &UnixStream) -> io::Result<([OwnedFd; FILES], Follows)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty())?;
    let follows = if byte[0] == Follows::Initializer as u8 { Follows::Initializer } else { Follows::Nothing };
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    files.iter().try_for_each(|file| fcntl_setfd(file, FdFlags::CLOEXEC))?;
    let wrong = |files: Vec<OwnedFd>| io::Error::other(format!("{} files came, and not {FILES}", files.len()));
    Ok((files.try_into().map_err(wrong)?, follows))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn files_arrive_in_order_and_are_the_same_files() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let file = tempfile::tempfile().unwrap();
        hand_down(&ours, [file.as_fd(), writer.as_fd(), ours.as_fd()], Follows::Initializer).unwrap();
        let ([_, pipe, _], follows) = take_over(&theirs).unwrap();
        assert_eq!(follows, Follows::Initializer);
        drop(writer);
        io::Write::write_all(&mut std::fs::File::from(pipe), b"same").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "same");
        drop(ours);
        assert!(take_over(&theirs).unwrap_err().to_string().contains("0 files"));
    }
}
