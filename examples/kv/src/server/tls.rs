use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use service_lib::Halves;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// Maximum time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// TLS configuration of a port. Accepts TLS 1.2 and 1.3.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// Invalid TLS options, with the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is not in PEM format.
    #[error("cannot read {}: {why}; name a readable file in PEM with {option}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        why: pem::Error,
        /// The option that names the file.
        option: &'static str,
    },
    /// A file contains no certificate.
    #[error("there is no certificate in {}; name a file in PEM with {option}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The option that names the file.
        option: &'static str,
    },
    /// A certificate of a certification authority cannot be used.
    #[error("a certificate of --tls-client-ca cannot be used: {0}")]
    ClientCa(String),
    /// The certificate or the key cannot be used, or they do not match.
    #[error("the certificate of --tls-cert and the key of --tls-key cannot be used: {0}")]
    Certificate(rustls::Error),
}

impl Tls {
    /// Reads the server's certificate chain and key. With `client_ca`, clients must present a
    /// certificate of one of these authorities.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read or used.
    pub fn from_files(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let certificates = certificates(cert, "--tls-cert")?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|why| TlsError::Read {
            path: key.to_owned(),
            why,
            option: "--tls-key",
        })?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificate)?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let refused = |why: &dyn fmt::Display| TlsError::ClientCa(why.to_string());
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates(path, "--tls-client-ca")? {
                    roots.add(certificate).map_err(|why| refused(&why))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(|why| refused(&why))?)
            }
        };
        let config = builder.with_single_cert(certificates, key).map_err(TlsError::Certificate)?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Runs the TLS handshake with a client.
    ///
    /// # Errors
    ///
    /// Returns an error if the client does not speak TLS, has no valid certificate although one is
    /// required, or takes too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<Halves> {
        let accepted = timeout(HANDSHAKE_TIMEOUT, self.0.accept(stream)).await;
        let stream = accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let (input, output) = tokio::io::split(stream);
        Ok((Box::new(input), Box::new(output)))
    }
}

fn certificates(
    path: &Path,
    option: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |why| TlsError::Read { path: path.to_owned(), why, option };
    let found = CertificateDer::pem_file_iter(path).map_err(read)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(read)?;
    if found.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned(), option });
    }
    Ok(found)
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}
