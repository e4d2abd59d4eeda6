//! Certificates made when a test runs: an authority, and servers it vouches for, rightly or not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use tempfile::NamedTempFile;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A certificate authority whose certificate is in a file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: NamedTempFile,
}

impl Authority {
    /// A new one, known to nobody.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // A name of its own: two of one name would be told apart by their signatures only, an error of another kind.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nanogate test authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("an authority signs itself");
        let file = NamedTempFile::new().expect("a file can be made");
        std::fs::write(file.path(), certificate.pem()).expect("a file can be written");
        Authority { issuer: Issuer::new(params, key), file }
    }

    /// Its certificate as PEM, for `upstream_ca_file`.
    pub fn file(&self) -> &Path {
        self.file.path()
    }

    /// A `gateway_settings` line that trusts it.
    pub fn setting(&self) -> String {
        format!("  upstream_ca_file: \"{}\"\n", self.file().display())
    }

    /// A server with a good certificate for these names; for one that is wrong, name others.
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.signed(params(names))
    }

    /// A server whose certificate was good until some years ago.
    pub fn expired_server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let mut params = params(names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.signed(params)
    }

    fn signed(&self, params: CertificateParams) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key can be written");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("ring has the default versions");
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
        Arc::new(config.expect("key and certificate belong together"))
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("the names are DNS names or addresses")
}
