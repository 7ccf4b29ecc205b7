//! Certificates by ACME (RFC 8555): ordered, kept, and renewed at two thirds of their time.
//!
//! The authority sees that the name leads here by TLS-ALPN-01 (RFC 8737): it connects to port 443 of the name,
//! which has to end at the listener that the certificate is for. No other port, no web server, no DNS account.

mod http;
mod kept;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_rustls::rustls::{
    crypto,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::ClientHello,
    sign::CertifiedKey,
};

use self::kept::{Kept, Life};
use super::{Acceptor, TlsError};
use crate::{
    clock::SharedClock,
    config::Acme,
    model::{Moment, UnixTime},
};

/// What the authority offers when it comes to look (RFC 8737 §6.2).
pub(super) const ALPN: &[u8] = b"acme-tls/1";

/// An order takes seconds; one that takes longer is begun again.
const ORDER_WITHIN: Duration = Duration::from_secs(180);
/// How long the authority may look and issue, each.
const STEP_WITHIN: Duration = Duration::from_secs(60);
/// After the first failure. Let's Encrypt allows five failed orders of a name an hour: doubling from here, the
/// fifth ends the first hour.
const AGAIN: Duration = Duration::from_secs(120);
/// The longest wait after a failure: a month before the end leaves dozens of tries.
const AGAIN_MAX: Duration = Duration::from_secs(12 * 3600);
/// How often is looked whether it is time, at least: the wall clock may have been put right meanwhile.
const LOOK: Duration = Duration::from_secs(6 * 3600);

/// Whether this is the authority that looks, and nobody else. It offers nothing but [`ALPN`] (RFC 8737 §3).
pub(super) fn is_challenge(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.next() == Some(ALPN) && offered.next().is_none())
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    /// The authority, or the way to it.
    #[error("{0}")]
    Authority(#[from] instant_acme::Error),
    /// It wants what is not had here.
    #[error(
        "the authority offers no tls-alpn-01 for {0}, and this gateway has nothing else; name certificate and key of another program"
    )]
    Challenge(String),
    /// What came or goes to disk.
    #[error("{0}")]
    Kept(#[from] TlsError),
    /// The authority came and did not find the proof, or nobody.
    #[error(
        "{authority} could not see that {domain} leads here: {why}; port 443 of that name must end at [public.tls] listen"
    )]
    Astray {
        /// Which one.
        authority: String,
        /// Where it went.
        domain: String,
        /// What it said.
        why: String,
    },
    /// Making the proof.
    #[error("no proof can be made: {0}")]
    Make(String),
    /// Nothing came.
    #[error("the authority took more than {} s", ORDER_WITHIN.as_secs())]
    Slow,
}

/// Keeps the certificate of a listener from running out.
#[derive(Debug)]
pub struct Renewal {
    acceptor: Acceptor,
    kept: Kept,
    life: Option<Life>,
    settings: Acme,
}

impl Renewal {
    /// Shows what is kept already, if anything is. Until there is something, handshakes end with an alert.
    ///
    /// # Errors
    /// [`TlsError::Acme`] when the place for it cannot be made.
    pub fn new(acceptor: Acceptor, settings: Acme) -> Result<Self, TlsError> {
        let kept = Kept::open(&settings)?;
        let mut renewal = Self { acceptor, kept, life: None, settings };
        match renewal.kept.certificate() {
            Ok(Some(found)) => renewal.show(found),
            Ok(None) => {}
            // Nothing is lost by ordering another one.
            Err(error) => tracing::warn!(%error, "ordering another certificate"),
        }
        Ok(renewal)
    }

    /// Orders whenever it is time, until `stopped`. `now` hurries a try that waits after a failure: its owner has
    /// mended what was wrong.
    pub async fn run(mut self, clock: SharedClock, now: Arc<Notify>, mut stopped: watch::Receiver<bool>) {
        let mut failures = 0;
        loop {
            let wait = match failures {
                0 => self.due_in(clock.moment()),
                _ => after(failures),
            };
            let hurry = async {
                now.notified().await;
                // What is good is left alone.
                if failures == 0 {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                () = sleep(wait.min(LOOK)) => {}
                () = hurry => {}
            }
            if failures == 0 && !self.due_in(clock.moment()).is_zero() {
                continue;
            }
            let ordered = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                ordered = timeout(ORDER_WITHIN, self.order()) => ordered.unwrap_or(Err(OrderError::Slow)),
            };
            self.acceptor.0.shown.prove(None);
            match ordered {
                Ok(found) => {
                    failures = 0;
                    self.show(found);
                    tracing::info!(domain = self.settings.domain, "a new certificate has been issued");
                }
                Err(error) => {
                    failures += 1;
                    let domain = &self.settings.domain;
                    let again_s = after(failures).as_secs();
                    tracing::error!(domain, %error, again_s, "no certificate by ACME; SIGHUP tries again at once");
                }
            }
        }
    }

    fn show(&mut self, (key, life): (Arc<CertifiedKey>, Life)) {
        self.acceptor.0.shown.set(key);
        self.life = Some(life);
    }

    fn due_in(&self, now: Moment) -> Duration {
        self.life.map_or(Duration::ZERO, |life| life.due_in(now))
    }

    /// One order, from the account to the certificate on disk.
    async fn order(&self) -> Result<(Arc<CertifiedKey>, Life), OrderError> {
        let account = self.account().await?;
        let domain = &self.settings.domain;
        let names = [Identifier::Dns(domain.clone())];
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            // It may remember that it has looked.
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
            let mut challenge = challenge.ok_or_else(|| OrderError::Challenge(domain.clone()))?;
            let digest = challenge.key_authorization().digest().as_ref().to_vec();
            let proof = proof(domain, &digest).map_err(OrderError::Make)?;
            self.acceptor.0.shown.prove(Some(Arc::new(proof)));
            challenge.set_ready().await?;
        }
        let patience = RetryPolicy::new().timeout(STEP_WITHIN);
        let astray = |why: String| OrderError::Astray {
            authority: self.settings.directory.clone(),
            domain: domain.clone(),
            why,
        };
        match order.poll_ready(&patience).await {
            Ok(OrderStatus::Ready) => {}
            Ok(status) => return Err(astray(format!("the order is {status:?}"))),
            Err(instant_acme::Error::Api(problem)) => return Err(astray(problem.to_string())),
            Err(error) => return Err(error.into()),
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&patience).await?;
        Ok(self.kept.keep_certificate(&(key + &chain))?)
    }

    /// The account that is kept, or a new one.
    async fn account(&self) -> Result<Account, OrderError> {
        let client = http::Client::new().map_err(|error| OrderError::Make(error.to_string()))?;
        let builder = Account::builder_with_http(Box::new(client));
        if let Some(credentials) = self.kept.account()? {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact = self.settings.contact.as_ref().map(|contact| format!("mailto:{contact}"));
        let contact: Vec<_> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            // `agree_to_terms`, without which there are no such settings.
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) = builder.create(&wanted, self.settings.directory.clone(), None).await?;
        self.kept.keep_account(&credentials)?;
        Ok(account)
    }
}

/// How long to wait after so many failures, of which there has been one at least.
fn after(failures: u32) -> Duration {
    AGAIN.saturating_mul(1 << (failures - 1).min(16)).min(AGAIN_MAX)
}

/// The certificate that shows the authority who is here (RFC 8737 §3).
fn proof(domain: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    let make = || -> Result<CertifiedKey, Box<dyn std::error::Error>> {
        let mut params = CertificateParams::new([domain.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let private = crypto::ring::sign::any_supported_type(&private)?;
        // `from_der` would look into the certificate, whose critical extension only authorities know.
        Ok(CertifiedKey::new(vec![certificate.der().clone()], private))
    };
    make().map_err(|error| error.to_string())
}

impl Life {
    /// When two thirds of it are over; a clock that is known to be wrong proves nothing.
    fn due_in(self, now: Moment) -> Duration {
        if !now.trusted {
            return LOOK;
        }
        let due = UnixTime(self.from.0 + (self.until.0.saturating_sub(self.from.0)) / 3 * 2);
        Duration::from_millis(due.0.saturating_sub(now.wall.0))
    }
}
