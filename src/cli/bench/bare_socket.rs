//! A bare pair of sockets between two threads: the least that speaking with another process takes, or another machine.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::Fallible;

/// One end of a pair.
pub(super) trait Socket: Read + Write + Send + Sized {
    /// The name of the stream of bytes in the report.
    const BULK: &str;

    /// The name of the round trips of one byte.
    const PING_PONG: &str;

    fn pair() -> Fallible<(Self, Self)>;
}

impl Socket for UnixStream {
    const BULK: &str = "unix_bulk";
    const PING_PONG: &str = "unix_pingpong";

    fn pair() -> Fallible<(Self, Self)> {
        Ok(Self::pair()?)
    }
}

/// On loopback, without the delay that collects small writes.
impl Socket for TcpStream {
    const BULK: &str = "tcp_bulk";
    const PING_PONG: &str = "tcp_pingpong";

    fn pair() -> Fallible<(Self, Self)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let ours = Self::connect(listener.local_addr()?)?;
        let (theirs, _) = listener.accept()?;
        ours.set_nodelay(true)?;
        theirs.set_nodelay(true)?;
        Ok((ours, theirs))
    }
}

/// Writes `bytes` so many times to a thread that reads them; MB/s.
pub(super) fn bulk<S: Socket>(bytes: usize, times: usize) -> Fallible<f64> {
    let (mut ours, mut theirs) = S::pair()?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut buffer = vec![0; bytes];
            (0..times).try_for_each(|_| theirs.read_exact(&mut buffer))?;
            theirs.write_all(&[1])
        });
        let buffer = vec![7; bytes];
        let start = Instant::now();
        (0..times).try_for_each(|_| ours.write_all(&buffer))?;
        ours.read_exact(&mut [0])?;
        let value = (bytes * times) as f64 / start.elapsed().as_secs_f64() / 1e6;
        reader.join().map_err(|_| "the far end panicked")??;
        Ok(value)
    })
}

/// Measures round trips of one byte.
pub(super) fn ping_pong<S: Socket>(warm_up: usize, trips: usize) -> Fallible<Vec<Duration>> {
    let (mut ours, mut theirs) = S::pair()?;
    std::thread::scope(|scope| {
        let far_end = scope.spawn(move || {
            let mut byte = [0];
            while theirs.read(&mut byte)? > 0 {
                theirs.write_all(&byte)?;
            }
            Ok::<_, std::io::Error>(())
        });
        let mut times = Vec::with_capacity(trips);
        for trip in 0..warm_up + trips {
            let start = Instant::now();
            ours.write_all(&[1])?;
            ours.read_exact(&mut [0])?;
            if trip >= warm_up {
                times.push(start.elapsed());
            }
        }
        // The far end leaves when nothing can come any more.
        drop(ours);
        far_end.join().map_err(|_| "the far end panicked")??;
        Ok(times)
    })
}
