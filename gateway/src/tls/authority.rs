//! The gateway's own certificate authority, for those who have no domain or want none.
//!
//! `authority.pem` holds key and certificate (mode 0600), is made once and never changed: its fingerprint
//! is in every pairing URI. `ca.pem` is a copy of the certificate alone, to give to clients. The
//! server's certificate and key live in memory: nobody pins them, so each start may have new ones.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use ring::digest::{SHA256, digest};
use time::OffsetDateTime;
use tokio_rustls::rustls::{
    crypto,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::{TlsError, files};
use crate::model::{Moment, UnixTime};

/// Key and certificate.
const AUTHORITY: &str = "authority.pem";
/// The certificate alone.
const CERTIFICATE: &str = "ca.pem";
/// A certificate begins so long before it is issued: clocks of phones differ.
const EARLIER: Duration = Duration::from_secs(2 * DAY);
/// It ends so long after: with what was before, less than the 398 days that clients bear at most.
const VALID: Duration = Duration::from_secs(395 * DAY);
/// A new one is issued so long before the old one ends.
const RENEW: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// A certificate authority whose key is at hand.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate for this server, and for how long it will do.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) key: Arc<CertifiedKey>,
    /// It is valid from here …
    from: UnixTime,
    /// … and to be replaced here.
    renew: UnixTime,
    names: Vec<String>,
}

impl Issued {
    /// Whether it still does. A clock that is known to be wrong proves nothing.
    pub(super) fn serves(&self, names: &[String], now: Moment) -> bool {
        self.names == names && (!now.trusted || (self.from..self.renew).contains(&now.wall))
    }
}

impl Authority {
    /// Opens the authority that is kept in `dir`; the first time, makes it.
    ///
    /// # Errors
    /// [`TlsError::Authority`] when the disk refuses, or holds something else. A damaged authority is
    /// never replaced by a new one: every paired device would refuse that.
    pub fn open(dir: &Path) -> Result<Self, TlsError> {
        let path = dir.join(AUTHORITY);
        let failed = |what: String| TlsError::Authority { path: path.clone(), what };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = make().map_err(|error| failed(error.to_string()))?;
                keep(&path, &made).map_err(|error| failed(error.to_string()))?;
                // Another process may have been faster: what is on disk counts.
                fs::read_to_string(&path)
            }
            read => read,
        };
        let text = text.map_err(|error| failed(error.to_string()))?;
        let key = KeyPair::from_pem(&text).map_err(|error| failed(error.to_string()))?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes());
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        let pem = text[text.find("-----BEGIN CERT").unwrap_or_default()..].to_owned();
        let issuer = Issuer::new(parameters(&key), key);
        let copy = dir.join(CERTIFICATE);
        if fs::read_to_string(&copy).ok().as_ref() != Some(&pem) {
            fs::write(&copy, &pem).map_err(|error| failed(format!("{}: {error}", copy.display())))?;
        }
        Ok(Self { certificate, issuer, pem })
    }

    /// Whether one is kept in `dir`, usable or not.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        dir.join(AUTHORITY).exists()
    }

    /// SHA-256 of the certificate in lower-case hexadecimal: what a device compares before it believes
    /// the certificate that the gateway sends along.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        use std::fmt::Write as _;
        digest(&SHA256, &self.certificate).as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The certificate in PEM, as clients take it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for this server.
    pub(super) fn issue(&self, names: Vec<String>, now: Moment) -> Result<Issued, TlsError> {
        let wall = Duration::from_millis(now.wall.0);
        let (from, until) = if now.trusted {
            (wall.saturating_sub(EARLIER), wall + VALID)
        } else {
            // A board without a clock does not know the day yet: as long as the authority itself, until it does.
            let unix = |date: OffsetDateTime| {
                Duration::from_secs(date.unix_timestamp().try_into().unwrap_or_default())
            };
            (unix(begin()), unix(end()))
        };
        let attempt = || -> Result<CertifiedKey, Box<dyn std::error::Error>> {
            let mut params = CertificateParams::new(names.clone())?;
            let mut subject = DistinguishedName::new();
            subject.push(DnType::CommonName, names.first().map_or("unifiedpush-gateway", String::as_str));
            params.distinguished_name = subject;
            params.not_before = date(from)?;
            params.not_after = date(until)?.min(end());
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.issuer)?;
            // With the authority's own, which a device needs that knows its fingerprint only.
            let chain = vec![certificate.der().clone(), self.certificate.clone()];
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            Ok(CertifiedKey::from_der(chain, key, &crypto::ring::default_provider())?)
        };
        let key = attempt()
            .map_err(|error| TlsError::Issue { names: names.join(", "), what: error.to_string() })?;
        let millis = |time: Duration| UnixTime(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        // One that was made by a wrong clock is replaced as soon as the right time is known.
        let renew = if now.trusted { until.saturating_sub(RENEW) } else { Duration::ZERO };
        Ok(Issued { from: millis(from), key: Arc::new(key), names, renew: millis(renew) })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

/// What this machine may be called in a certificate: the configured names, its host name, and its
/// addresses. With a configured name, public addresses stay out: that name is what devices use.
pub(super) fn names(configured: &[String]) -> Vec<String> {
    let mut names = configured.to_vec();
    if let Some(host) = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        if !host.is_empty() && host.len() <= 253 && host.bytes().all(plain) {
            // By mDNS, which most LANs resolve.
            names.extend((!host.contains('.')).then(|| format!("{host}.local")));
            names.push(host);
        }
    }
    names.push("localhost".to_owned());
    let mut addresses = vec![IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = interface.address else { continue };
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        let v6 = address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip()));
        addresses.extend(v4.or(v6).filter(|&address| told(address, !configured.is_empty())));
    }
    addresses.sort_unstable();
    // Bridges and containers can give a machine hundreds.
    names.extend(addresses.into_iter().map(|address| address.to_string()).take(ADDRESSES_MAX));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Addresses in one certificate.
const ADDRESSES_MAX: usize = 32;

fn told(address: IpAddr, private_only: bool) -> bool {
    let private = match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
        // Without its interface, a link-local address leads nowhere.
        IpAddr::V6(v6) if v6.is_unicast_link_local() => return false,
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback(),
    };
    private || !private_only
}

/// Key and certificate of a new authority.
fn make() -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = parameters(&key).self_signed(&key)?;
    Ok(key.serialize_pem() + &certificate.pem())
}

/// Everything but the key is fixed, so the key is all that has to be kept to sign as this authority.
fn parameters(key: &KeyPair) -> CertificateParams {
    let hash = digest(&SHA256, key.public_key_raw());
    let short: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, format!("UnifiedPush gateway {short}"));
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = begin();
    params.not_after = end();
    params
}

/// Before any release: also a phone whose clock is late believes it.
fn begin() -> OffsetDateTime {
    date_time_ymd(2026, 1, 1)
}

/// The last day that every client can read (RFC 5280 §4.1.2.5: later ones are written in another form).
fn end() -> OffsetDateTime {
    date_time_ymd(2049, 12, 31)
}

fn date(unix: Duration) -> Result<OffsetDateTime, time::error::ComponentRange> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(unix.as_secs()).unwrap_or(i64::MAX))
}

/// Tells the files apart that this process begins.
static MADE: AtomicU64 = AtomicU64::new(0);

/// Writes the whole file or nothing, and never over one that is there.
fn keep(path: &Path, text: &str) -> io::Result<()> {
    files::make_dir(path.parent().unwrap_or(Path::new(".")))?;
    // Nobody else's: two may make one at once.
    let new = path.with_extension(format!(
        "pem.new.{}.{}",
        std::process::id(),
        MADE.fetch_add(1, Ordering::Relaxed)
    ));
    files::write(&new, text)?;
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    files::sync_dir(path)
}
