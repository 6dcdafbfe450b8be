//! Bounds for strangers: what a connection may cost before it has shown a certificate of this cluster.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// Strangers at a time; one more, and the oldest is cut off, of the network that most of them come from. So whoever connects and
/// is silent keeps nobody out, and who connects without end keeps out those of its own network at most.
pub(super) const STRANGERS_MAX: usize = 64;

/// How long a stranger has to show what it is.
pub(super) const STRANGER_WAIT: Duration = Duration::from_secs(3);

/// Handshakes begun in a second: some 0.3 ms of computing each, and tasks are to have the rest.
const HANDSHAKES_PER_S: u32 = 200;

/// What is read of a stranger: its part of a handshake is 2 to 3 KiB.
const STRANGER_BYTES_MAX: usize = 16 << 10;

/// Who stands at the gate.
#[derive(Debug, Default)]
pub(super) struct Gate {
    strangers: Mutex<VecDeque<Stranger>>,
    /// When the next handshake may begin. Who waits for that stands in line, and takes no turn if it is cut off meanwhile.
    next: tokio::sync::Mutex<Option<Instant>>,
    refused: AtomicU64,
    /// When that was last told, and how many there were then.
    told: Mutex<Option<(Instant, u64)>>,
}

/// One of them.
#[derive(Debug)]
struct Stranger {
    number: u64,
    network: IpAddr,
    greeting: AbortHandle,
}

/// Returns of which network an address is: of version 6 one host has as many as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (!0 << 64)).into(),
        address => address,
    }
}

/// How often it is told at most that strangers were refused: a log is not to be filled by whoever likes.
const TOLD_EVERY: Duration = Duration::from_secs(1);

impl Gate {
    /// Notes that a stranger has come, and cuts one off if they are too many.
    pub(super) fn enter(&self, number: u64, address: IpAddr, greeting: AbortHandle) {
        let mut strangers = self.strangers.lock();
        strangers.push_back(Stranger { number, network: network(address), greeting });
        if strangers.len() > STRANGERS_MAX
            && let Some(one) = one_too_many(&strangers)
            && let Some(stranger) = strangers.remove(one)
        {
            stranger.greeting.abort();
            self.refuse();
        }
    }

    /// Notes that a stranger is none any more, or is gone.
    pub(super) fn leave(&self, number: u64) {
        self.strangers.lock().retain(|stranger| stranger.number != number);
    }

    /// Waits until it is time for another handshake.
    pub(super) async fn turn(&self) {
        const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / HANDSHAKES_PER_S as u64);
        let mut next = self.next.lock().await;
        if let Some(next) = *next {
            sleep_until(next).await;
        }
        // After a pause as many may begin at once as may be here.
        let now = Instant::now();
        let earliest = now.checked_sub(INTERVAL * STRANGERS_MAX as u32).unwrap_or(now);
        *next = Some(next.unwrap_or(earliest).max(earliest) + INTERVAL);
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many were refused since that was last told, if it is time to tell it again.
    pub(super) fn to_be_told(&self) -> Option<u64> {
        let (mut told, now, refused) = (self.told.lock(), Instant::now(), self.refused());
        let before = match *told {
            Some((at, _)) if now < at + TOLD_EVERY => return None,
            Some((_, before)) => before,
            None => 0,
        };
        *told = Some((now, refused));
        Some(refused - before)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Returns which is cut off: the oldest of the network that most are of.
fn one_too_many(strangers: &VecDeque<Stranger>) -> Option<usize> {
    let mut of = HashMap::new();
    for stranger in strangers {
        *of.entry(stranger.network).or_insert(0) += 1;
    }
    let most = of.values().copied().max()?;
    strangers.iter().position(|stranger| of[&stranger.network] == most)
}

/// A connection of which only so much is read until it is known whose it is.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    /// How much may still be read; `None` if all.
    left: Option<usize>,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, left: Some(STRANGER_BYTES_MAX) }
    }

    /// It is known whose it is.
    pub(super) fn lift_meter(&mut self) {
        self.left = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(left) = self.left else { return Pin::new(&mut self.stream).poll_read(cx, buf) };
        if left == 0 {
            return Poll::Ready(Err(io::Error::other(format!("{STRANGER_BYTES_MAX} bytes came and no certificate"))));
        }
        let room = left.min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        buf.advance(count);
        self.left = Some(left - count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn only_so_much_is_read_of_a_stranger_and_all_of_a_peer() {
        let (mut there, here) = duplex(1 << 20);
        there.write_all(&vec![7; 2 * STRANGER_BYTES_MAX]).await.unwrap();
        let mut metered = Metered::new(here);
        let mut bytes = vec![0; STRANGER_BYTES_MAX];
        metered.read_exact(&mut bytes).await.unwrap();
        let error = metered.read_u8().await.unwrap_err();
        assert_eq!(error.to_string(), "16384 bytes came and no certificate");
        metered.lift_meter();
        metered.read_exact(&mut bytes).await.unwrap();
        assert!(bytes.iter().all(|byte| *byte == 7));
    }

    #[tokio::test(start_paused = true)]
    async fn handshakes_take_turns_after_as_many_as_may_be_here() {
        let (gate, began) = (Gate::default(), Instant::now());
        for _ in 0..STRANGERS_MAX {
            gate.turn().await;
        }
        assert!(began.elapsed() < Duration::from_millis(20), "{:?}", began.elapsed());
        for _ in 0..HANDSHAKES_PER_S {
            gate.turn().await;
        }
        assert!((0.9..1.1).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_cut_off_in_line_takes_no_turn() {
        let (gate, began) = (std::sync::Arc::new(Gate::default()), Instant::now());
        for _ in 0..STRANGERS_MAX {
            gate.turn().await;
        }
        for _ in 0..1_000 {
            let gate = gate.clone();
            let stranger = tokio::spawn(async move { gate.turn().await });
            tokio::task::yield_now().await;
            stranger.abort();
            let _ = stranger.await;
        }
        gate.turn().await;
        assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_told_once_a_second_with_their_number() {
        let gate = Gate::default();
        gate.refuse();
        assert_eq!(gate.to_be_told(), Some(1));
        (0..500).for_each(|_| gate.refuse());
        assert_eq!(gate.to_be_told(), None);
        tokio::time::advance(TOLD_EVERY).await;
        assert_eq!((gate.to_be_told(), gate.to_be_told()), (Some(500), None));
    }

    /// Has strangers come from these addresses, one after the other, of whom one leaves; returns who was cut off.
    async fn cut_off(addresses: impl Iterator<Item = IpAddr>, leaves: u64) -> (Vec<usize>, u64) {
        let gate = Gate::default();
        let come = |(number, address)| {
            let stranger = tokio::spawn(std::future::pending::<()>());
            gate.enter(number, address, stranger.abort_handle());
            if number == leaves {
                gate.leave(number);
            }
            stranger
        };
        let strangers: Vec<_> = (0..).zip(addresses).map(come).collect();
        for _ in 0..strangers.len() {
            tokio::task::yield_now().await;
        }
        let cut = (0..).zip(&strangers).filter_map(|(at, stranger)| stranger.is_finished().then_some(at)).collect();
        strangers.iter().for_each(tokio::task::JoinHandle::abort);
        (cut, gate.refused())
    }

    #[tokio::test]
    async fn the_oldest_stranger_is_cut_off_for_one_too_many() {
        let one_address = std::iter::repeat_n(IpAddr::from([127, 0, 0, 1]), STRANGERS_MAX + 3);
        assert_eq!(cut_off(one_address, 1).await, (vec![0, 2], 2));
        let each_its_own = (0..STRANGERS_MAX as u8 + 3).map(|at| IpAddr::from([10, 0, 0, at]));
        assert_eq!(cut_off(each_its_own, 1).await, (vec![0, 2], 2));
    }

    #[tokio::test]
    async fn who_connects_without_end_cuts_off_none_but_its_own() {
        // Two that are slow, and came first; then a flood from one network, in which addresses change.
        let slow = [IpAddr::from([10, 0, 0, 1]), "2001:db8::1".parse().unwrap()];
        let flood = (0..10 * STRANGERS_MAX as u64).map(|at| Ipv6Addr::from_bits((0xbad << 80) + u128::from(at)).into());
        let (cut, refused) = cut_off(slow.into_iter().chain(flood), u64::MAX).await;
        let expected: Vec<_> = (2..).take(9 * STRANGERS_MAX + 2).collect();
        assert_eq!((cut, refused), (expected.clone(), expected.len() as u64));
    }
}
