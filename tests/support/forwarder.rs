//! A stretch of network between two peers, that can be cut, or stand still.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Forwards what connects to it. It ends with this.
pub struct Forwarder {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: Mutex<Option<SocketAddr>>,
    state: AtomicU8,
    streams: Mutex<Vec<TcpStream>>,
}

const PASSES: u8 = 0;
const STANDS_STILL: u8 = 1;
const REFUSES: u8 = 2;
const ENDS: u8 = 3;

impl Forwarder {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { to: Mutex::default(), state: AtomicU8::new(PASSES), streams: Mutex::default() });
        let accepting = shared.clone();
        std::thread::spawn(move || accepting.accept(&listener));
        Self { address, shared }
    }

    /// Where to connect to.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn forward_to(&self, to: SocketAddr) {
        *self.shared.to.lock().unwrap() = Some(to);
    }

    /// Cuts all connections. Others may follow at once.
    pub fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            // The other end may have done so.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Cuts all connections, and lets no other in.
    pub fn close(&self) {
        self.shared.state.store(REFUSES, Ordering::SeqCst);
        self.cut();
    }

    /// Lets nothing through, and keeps the connections.
    pub fn stand_still(&self) {
        self.shared.state.store(STANDS_STILL, Ordering::SeqCst);
    }

    /// Lets all through again.
    pub fn open(&self) {
        self.shared.state.store(PASSES, Ordering::SeqCst);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.state.store(ENDS, Ordering::SeqCst);
        // Wakes the one that accepts.
        let _ = TcpStream::connect(self.address);
        self.cut();
    }
}

impl Shared {
    fn state(&self) -> u8 {
        self.state.load(Ordering::SeqCst)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for here in listener.incoming().flatten() {
            if self.state() == ENDS {
                return;
            }
            let to = *self.to.lock().unwrap();
            let Some(there) = to.filter(|_| self.state() != REFUSES).and_then(|to| TcpStream::connect(to).ok()) else {
                continue;
            };
            let mut streams = self.streams.lock().unwrap();
            for (from, to) in [(&here, &there), (&there, &here)] {
                from.set_nodelay(true).unwrap();
                from.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let shared = self.clone();
                std::thread::spawn(move || shared.copy(from, to));
            }
            streams.extend([here, there]);
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 64 << 10];
        while self.state() != ENDS {
            if self.state() == STANDS_STILL {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) if to.write_all(&bytes[..count]).is_err() => break,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        // One end at a time: what goes the other way is still to arrive.
        let _ = to.shutdown(Shutdown::Write);
    }
}
