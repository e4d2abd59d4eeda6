//! Certificate authorities of the operator's own, trusted beside the system's.
//!
//! Pingora takes one file, which replaces the system's authorities: a private authority for one upstream would shut
//! out every public one. So both are written into one file in memory, which needs no folder to be writable.

use crate::config::{Config, Environment};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// A file of certificates that lives as long as this value.
pub struct Authorities {
    file: File,
}

impl Authorities {
    /// Those of a PEM file beside the system's.
    ///
    /// # Errors
    /// A fragment: the file cannot be read, is no PEM, or holds no certificate.
    pub fn with(path: &Path, system: &[CertificateDer<'static>]) -> Result<Self, String> {
        let own = CertificateDer::pem_file_iter(path).map_err(|cause| cause.to_string())?;
        let own: Vec<_> = own.collect::<Result<_, _>>().map_err(|cause| cause.to_string())?;
        if own.is_empty() {
            return Err("it holds no PEM certificate".to_owned());
        }
        let memory = memfd_create("authorities", MFdFlags::MFD_CLOEXEC).map_err(|cause| cause.to_string())?;
        let mut file = File::from(memory);
        for certificate in own.iter().chain(system) {
            write_pem(&mut file, certificate).map_err(|cause| cause.to_string())?;
        }
        Ok(Authorities { file })
    }

    /// Where this process can open it.
    pub fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }
}

/// Whether any upstream is behind TLS, or any is not.
pub fn has_upstreams(config: &Config, behind_tls: bool) -> bool {
    config.deployments.iter().any(|deployment| deployment.base.tls == behind_tls)
}

/// The system's authorities (SSL_CERT_FILE and SSL_CERT_DIR where they are set), each of them checked: Pingora takes it for
/// granted that they can be read. None where nobody has use for them: no upstream is behind TLS, no others stand beside
/// them, and nobody has named files of them.
///
/// # Errors
/// A fragment: they cannot be read, or one of them is none.
pub fn of_system(config: &Config, environment: &Environment) -> Result<Vec<CertificateDer<'static>>, String> {
    let are_named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().any(|name| environment.get(name).is_some());
    if !are_named && !has_upstreams(config, true) && config.gateway.upstream_ca_file.is_none() {
        return Ok(Vec::new());
    }
    let system = rustls_native_certs::load_native_certs().map_err(|cause| cause.to_string())?;
    let mut store = RootCertStore::empty();
    for certificate in &system {
        store.add(certificate.clone()).map_err(|cause| cause.to_string())?;
    }
    Ok(system)
}

/// RFC 7468, with lines of 64 characters.
fn write_pem(file: &mut File, certificate: &CertificateDer<'_>) -> std::io::Result<()> {
    let text = STANDARD.encode(certificate);
    writeln!(file, "-----BEGIN CERTIFICATE-----")?;
    for line in text.as_bytes().chunks(64) {
        file.write_all(line)?;
        writeln!(file)?;
    }
    writeln!(file, "-----END CERTIFICATE-----")
}
