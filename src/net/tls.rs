//! TLS 1.3 with certificates on both sides, and what these say.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::authority::{Authority, name_of};
use super::connection_file::Credentials;
use crate::error::Error;
use crate::wire::handshake::Role;

/// What is spoken above TLS.
const PROTOCOL: &[u8] = b"callboard";

/// The controller's side: who has no certificate of this authority is not let in.
pub(super) fn server(authority: &Authority) -> Result<Arc<ServerConfig>, Error> {
    let (certificate, key) = authority.issue(Role::Controller)?;
    let roots = Arc::new(roots(&authority.certificate).map_err(unusable)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build().map_err(unusable)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate_of(&certificate)?], key_of(&key)?)
        .map_err(unusable)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A ticket would let in again whose certificate counts no more.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The side of a peer that dials; and the name that the controller's certificate has to have.
///
/// # Errors
/// A sentence about what is wrong with the file.
pub(super) fn client(
    credentials: &Credentials,
    cluster: u64,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
    let Credentials { authority, certificate, key } = credentials;
    let text = |error: Error| error.to_string();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(authority)?)
        .with_client_auth_cert(vec![certificate_of(certificate).map_err(text)?], key_of(key).map_err(text)?)
        .map_err(|error| format!("its certificate and key cannot be used: {error}"))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    let name = ServerName::try_from(name_of(Role::Controller, cluster)).map_err(|error| error.to_string())?;
    Ok((Arc::new(config), name))
}

/// Returns the role that a peer's certificate gives it, which has been verified; `None` if it is not of this cluster.
pub(super) fn role_of(certificates: Option<&[CertificateDer<'_>]>, cluster: u64) -> Option<Role> {
    let certificate = ParsedCertificate::try_from(certificates?.first()?).ok()?;
    [Role::Engine, Role::Client].into_iter().find(|role| {
        let name = ServerName::try_from(name_of(*role, cluster));
        name.is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(authority: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let authority = certificate_of(authority).map_err(|error| error.to_string())?;
    roots.add(authority).map_err(|error| format!("its authority cannot be used: {error}"))?;
    Ok(roots)
}

fn certificate_of(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(format!("no certificate: {error}")))
}

fn key_of(pem: &str) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(format!("no key: {error}")))
}

fn unusable(error: impl ToString) -> Error {
    Error::System { doing: "preparing TLS", reason: error.to_string() }
}
