//! A bare pair of Unix sockets between two threads: the least that speaking with another process takes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::Fallible;

/// The name of the stream of bytes in the report.
pub(super) const BULK: &str = "unix_bulk";

/// The name of the round trips of one byte.
pub(super) const PING_PONG: &str = "unix_pingpong";

/// Writes `bytes` so many times to a thread that reads them; MB/s.
pub(super) fn bulk(bytes: usize, times: usize) -> Fallible<f64> {
    let (mut ours, mut theirs) = UnixStream::pair()?;
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
pub(super) fn ping_pong(warm_up: usize, trips: usize) -> Fallible<Vec<Duration>> {
    let (mut ours, mut theirs) = UnixStream::pair()?;
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
