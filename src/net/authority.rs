//! The authority of one cluster: it alone says who belongs to it, and as what.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::connection_file::{ConnectionFile, Credentials};
use crate::error::Error;
use crate::wire::handshake::Role;

/// How much earlier a certificate counts than it is made: clocks of machines differ.
const EARLIER: Duration = Duration::from_secs(24 * 3_600);

/// What makes certificates.
pub(super) struct Authority {
    pub(super) cluster: u64,
    pub(super) expires: SystemTime,
    /// Its own certificate, in PEM.
    pub(super) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new one.
    pub(super) fn new(cluster: u64, valid: Duration) -> Result<Self, Error> {
        let expires = SystemTime::now() + valid;
        let (params, key) = (of_authority(cluster, expires), KeyPair::generate().map_err(failed)?);
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self { cluster, expires, certificate, issuer: Issuer::new(params, key) })
    }

    /// Takes up the one whose file this is.
    pub(super) fn of(file: &ConnectionFile) -> Result<Self, Error> {
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(file.expires_unix_s);
        let Some(Credentials { authority, key, .. }) = &file.tls else {
            let problem = "it is of a cluster that spoke plain TCP; take another directory";
            return Err(Error::System { doing: "listening with TLS", reason: problem.into() });
        };
        let (cluster, key) = (file.cluster(), KeyPair::from_pem(key).map_err(failed)?);
        let issuer = Issuer::new(of_authority(cluster, expires), key);
        Ok(Self { cluster, expires, certificate: authority.clone(), issuer })
    }

    /// Returns its own file, from which it can be taken up again.
    pub(super) fn to_file(&self, address: &str) -> ConnectionFile {
        let (certificate, key) = (self.certificate.clone(), self.issuer.key().serialize_pem());
        self.file(Role::Controller, address, self.expires, certificate, key)
    }

    /// Makes a key, and a certificate that says that whoever has it is of this role; both in PEM. It counts until it `expires`,
    /// and no longer than the authority.
    pub(super) fn issue(&self, role: Role, expires: SystemTime) -> Result<(String, String), Error> {
        let mut params = CertificateParams::new([name_of(role, self.cluster)]).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![match role {
            Role::Controller => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Engine | Role::Client | Role::Host => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = validity(expires.min(self.expires));
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Returns the file of a peer. It counts for as long as it is to be `valid`, and no longer than the authority.
    pub(super) fn file_for(&self, role: Role, address: &str, valid: Duration) -> Result<ConnectionFile, Error> {
        let expires = (SystemTime::now() + valid).min(self.expires);
        let (certificate, key) = self.issue(role, expires)?;
        Ok(self.file(role, address, expires, certificate, key))
    }

    fn file(&self, role: Role, address: &str, expires: SystemTime, certificate: String, key: String) -> ConnectionFile {
        let credentials = Credentials { authority: self.certificate.clone(), certificate, key };
        ConnectionFile::new(role, self.cluster, address, expires, Some(credentials))
    }
}

/// The name by which a certificate tells the role of its holder. No machine has it.
pub(super) fn name_of(role: Role, cluster: u64) -> String {
    let role = match role {
        Role::Controller => "controller",
        Role::Engine | Role::Host => "engine",
        Role::Client => "client",
    };
    format!("{role}.{cluster:016x}.callboard")
}

fn of_authority(cluster: u64, expires: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("callboard cluster {cluster:016x}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = validity(expires);
    params
}

fn validity<T: From<SystemTime>>(expires: SystemTime) -> (T, T) {
    ((SystemTime::now() - EARLIER).into(), expires.into())
}

fn failed(error: rcgen::Error) -> Error {
    Error::System { doing: "making a certificate", reason: error.to_string() }
}
