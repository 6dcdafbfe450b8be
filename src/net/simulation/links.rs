//! Connections that can be cut at either end, with whatever is on its way; and how they are dialled.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;
use turmoil::net::TcpStream;

use crate::net::network;
use crate::net::way::{CONNECT_WAIT, Connection, Failed, Way};
use crate::remote::simulation::{PORT, Random};

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Dialler,
    Controller,
}

/// The connections of each host with the controller.
#[derive(Default)]
pub(super) struct Links(RefCell<HashMap<(String, Side), watch::Sender<()>>>);

impl Links {
    /// Cuts all that a host has, at this end. The other hears of it as far as the network lets it.
    pub(super) fn cut(&self, host: &str, side: Side) {
        self.0.borrow_mut().entry((host.into(), side)).or_default().send_replace(());
    }

    /// Makes an end of a connection of this host's one that can be cut.
    pub(super) fn end(&self, stream: TcpStream, host: &str, side: Side) -> End {
        let mut cut = self.0.borrow_mut().entry((host.into(), side)).or_default().subscribe();
        let cut = Box::pin(async move { drop(cut.changed().await) });
        End { stream, cut, is_cut: false }
    }
}

/// An end of a connection that can be cut.
pub(super) struct End {
    stream: TcpStream,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_cut: bool,
}

impl End {
    /// Has it cut after a while.
    fn cut_after(mut self, wait: Duration) -> Self {
        let cut = self.cut;
        self.cut = Box::pin(async move { drop(timeout(wait, cut).await) });
        self
    }

    fn poll_uncut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_cut = self.is_cut || self.cut.as_mut().poll(cx).is_ready();
        if self.is_cut { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_uncut(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_uncut(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_uncut(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_uncut(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl network::Connection for End {
    fn lift(&mut self) {}
}

/// How a host comes to the controller.
pub(super) struct Simulated {
    pub(super) host: String,
    pub(super) links: Rc<Links>,
    pub(super) random: RefCell<Random>,
    /// One connection of so many is cut soon, most of them before all is said with which a session goes on.
    pub(super) frail_once_in: u64,
}

impl Way for Simulated {
    async fn connect(&self, address: &str) -> Result<Box<dyn Connection>, Failed> {
        let connected = timeout(CONNECT_WAIT, TcpStream::connect((address, PORT))).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = connected.map_err(|error| Failed::ForNow(error.to_string()))?;
        let (end, mut random) = (self.links.end(stream, &self.host, Side::Dialler), self.random.borrow_mut());
        let is_frail = random.once_in(self.frail_once_in);
        Ok(Box::new(if is_frail { end.cut_after(random.ms(400)) } else { end }))
    }

    fn draw(&self) -> u64 {
        self.random.borrow_mut().next()
    }
}
