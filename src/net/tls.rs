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
    let (certificate, key) = authority.issue(Role::Controller, authority.expires)?;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    const CLUSTER: u64 = 7;

    fn authority(cluster: u64) -> Authority {
        Authority::new(cluster, Duration::from_secs(3_600)).unwrap()
    }

    fn credentials(of: &Authority, role: Role, trusts: &Authority) -> Credentials {
        let (certificate, key) = of.issue(role, of.expires).unwrap();
        Credentials { authority: trusts.certificate.clone(), certificate, key }
    }

    /// A listener that shows this certificate, where a controller shows its own.
    fn shows(of: &Authority, role: Role) -> Arc<ServerConfig> {
        let (certificate, key) = of.issue(role, of.expires).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&of.certificate).unwrap()), provider());
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap());
        let mut config =
            config.with_single_cert(vec![certificate_of(&certificate).unwrap()], key_of(&key).unwrap()).unwrap();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Arc::new(config)
    }

    /// Has the two meet; returns whether who dials finds whom it looks for, and the role that who listens sees.
    async fn meet(server: Arc<ServerConfig>, client: (Arc<ClientConfig>, ServerName<'static>)) -> (bool, Option<Role>) {
        let (here, there) = duplex(1 << 16);
        let listening = async {
            let mut stream = TlsAcceptor::from(server).accept(here).await.ok()?;
            let role = role_of(stream.get_ref().1.peer_certificates(), CLUSTER);
            // In TLS 1.3 whoever dials hears only with this that it was let in.
            let _ = stream.write_all(b"!").await;
            let _ = stream.shutdown().await;
            role
        };
        let dialling = async {
            let (config, name) = client;
            match TlsConnector::from(config).connect(name, there).await {
                Ok(mut stream) => stream.read_u8().await.is_ok(),
                Err(_) => false,
            }
        };
        let (role, is_found) = tokio::join!(listening, dialling);
        (is_found, role)
    }

    #[tokio::test]
    async fn each_is_what_its_certificate_says_and_nothing_else() {
        let (ours, theirs) = (authority(CLUSTER), authority(CLUSTER));
        let elsewhere = authority(8);
        let dials = |of: &Authority, role, trusts: &Authority| client(&credentials(of, role, trusts), CLUSTER).unwrap();
        let controller = || server(&ours).unwrap();
        // Who belongs here is let in, as what it is.
        for role in [Role::Engine, Role::Client] {
            assert_eq!(meet(controller(), dials(&ours, role, &ours)).await, (true, Some(role)));
        }
        // A controller is nobody who dials.
        assert_eq!(meet(controller(), dials(&ours, Role::Controller, &ours)).await.1, None);
        // A certificate of another authority, also of one for a cluster of the same number.
        for other in [&theirs, &elsewhere] {
            assert_eq!(meet(controller(), dials(other, Role::Engine, &ours)).await, (false, None));
        }
        // The authority is ours, and the certificate is for another cluster: of no role here.
        let mut renumbered = Authority::of(&ours.to_file("localhost:1")).unwrap();
        renumbered.cluster = 8;
        assert_eq!(meet(controller(), dials(&renumbered, Role::Engine, &ours)).await.1, None);
        // Whoever poses as the controller is found out: with a file that was stolen, or with an authority of its own.
        for role in [Role::Engine, Role::Client] {
            assert!(
                !meet(shows(&ours, role), dials(&ours, Role::Engine, &ours)).await.0,
                "posing by a file of {role:?}"
            );
        }
        assert!(!meet(shows(&theirs, Role::Controller), dials(&ours, Role::Engine, &ours)).await.0);
        assert!(!meet(shows(&renumbered, Role::Controller), dials(&ours, Role::Engine, &ours)).await.0);
        assert!(
            meet(shows(&ours, Role::Controller), dials(&ours, Role::Engine, &ours)).await.0,
            "and is not otherwise"
        );
    }

    #[tokio::test]
    async fn a_certificate_that_has_expired_counts_no_more() {
        let late = authority(CLUSTER);
        let mut expired = Authority::of(&late.to_file("localhost:1")).unwrap();
        expired.expires = std::time::SystemTime::now() - Duration::from_secs(60);
        let client = client(&credentials(&expired, Role::Engine, &late), CLUSTER).unwrap();
        assert_eq!(meet(server(&late).unwrap(), client).await, (false, None));
    }

    #[test]
    fn what_is_no_certificate_or_no_key_is_said() {
        let ours = authority(CLUSTER);
        let good = credentials(&ours, Role::Engine, &ours);
        let junk = "junk".to_string();
        for bad in [
            Credentials { authority: junk.clone(), ..good.clone() },
            Credentials { certificate: junk.clone(), ..good.clone() },
            Credentials { key: junk, ..good.clone() },
            Credentials { key: credentials(&ours, Role::Engine, &ours).key, ..good },
        ] {
            let told = client(&bad, CLUSTER).unwrap_err();
            assert!(
                ["no certificate", "no key", "cannot be used"].iter().any(|expected| told.contains(expected)),
                "{told}"
            );
        }
    }
}
