//! How a controller is come to: by TCP, with TLS or without.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::task::drawn;

/// How long one attempt to connect may take.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// What whoever dials has of the world, beside the time. A simulation has another.
pub(super) trait Way {
    /// Connects to the controller of this address.
    async fn connect(&self, address: &str) -> Result<Box<dyn Connection>, Failed>;

    /// Draws a number.
    fn draw(&self) -> u64;
}

/// Why a controller was not come to.
pub(super) enum Failed {
    /// It may be there the next time.
    ForNow(String),
    /// It will be the same the next time.
    ForGood(String),
    /// It will be so as long as somebody else listens there: for good, unless the controller was there before.
    ByStranger(String),
}

/// A connection, with TLS or without.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection for S {}

/// The network that there is.
pub(super) struct Tcp {
    /// With what TLS is spoken, and the name of the controller's certificate; `None` for plain TCP.
    pub(super) secured: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Way for Tcp {
    async fn connect(&self, address: &str) -> Result<Box<dyn Connection>, Failed> {
        let for_now = |error: std::io::Error| Failed::ForNow(error.to_string());
        let connected = timeout(CONNECT_WAIT, TcpStream::connect(address)).await;
        let stream = connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).map_err(for_now)?;
        stream.set_nodelay(true).map_err(for_now)?;
        match &self.secured {
            Some((config, name)) => {
                let secured = timeout(CONNECT_WAIT, secured(stream, config.clone(), name.clone())).await;
                Ok(Box::new(secured.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).map_err(of_tls)?))
            }
            None if stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()) => Ok(Box::new(stream)),
            None => Err(Failed::ForGood("plain TCP is spoken on loopback only; take a file with keys".into())),
        }
    }

    fn draw(&self) -> u64 {
        drawn()
    }
}

/// Makes a connection secure, to the controller of this name only.
async fn secured(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    // In TLS 1.3 whoever dials hears only with the first answer that its certificate was not taken.
    if stream.fill_buf().await?.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(stream)
}

/// Whether whoever listens says by it that a certificate is not taken. A signature that is not the authority's is told as a
/// `DecryptError`.
fn is_about_certificates(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
    )
}

fn what_is_wrong(problem: &CertificateError) -> String {
    match problem {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is that of another cluster".into()
        }
        other => format!("{other:?}"),
    }
}

/// Says what an error of TLS means: what is wrong with a certificate stays wrong.
fn of_tls(error: std::io::Error) -> Failed {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(problem)) => Failed::ForGood(format!(
            "whoever listens there is not the controller of this file, or its files were renewed ({}); take the file that it \
             writes now",
            what_is_wrong(problem)
        )),
        Some(rustls::Error::AlertReceived(alert)) if is_about_certificates(*alert) => Failed::ForGood(format!(
            "the controller does not take this file's certificate ({alert:?}); take the file that it writes now"
        )),
        Some(rustls::Error::InvalidMessage(_)) => {
            Failed::ByStranger("whoever listens there speaks no TLS, and is no controller".into())
        }
        _ => Failed::ForNow(error.to_string()),
    }
}
