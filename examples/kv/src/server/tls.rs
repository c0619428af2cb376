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

/// How long a client may take to agree on keys.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The encryption of a port: TLS 1.2 and 1.3.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// Why there is no encryption, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Of a file that is named.
    #[error("cannot read {}: {why}; name a readable file in PEM with {option}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: pem::Error,
        /// What names it.
        option: &'static str,
    },
    /// Nothing is in a file that is named.
    #[error("there is no certificate in {}; name a file in PEM with {option}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What names it.
        option: &'static str,
    },
    /// The certificate of a certification authority is not to be used.
    #[error("a certificate of --tls-client-ca cannot be used: {0}")]
    ClientCa(String),
    /// Certificate and key are not to be used, or do not fit.
    #[error("the certificate of --tls-cert and the key of --tls-key cannot be used: {0}")]
    Certificate(rustls::Error),
}

impl Tls {
    /// From the server's certificate, with those it hangs on behind it, and its key. With
    /// `client_ca`, clients must have a certificate of one of these authorities, too.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the files.
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

    /// Agrees on keys with a client.
    ///
    /// # Errors
    ///
    /// It does not speak TLS, is not whom we serve, or takes too long.
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
