//! Certificates, names, mounts and clocks as a doctor meets them. What needs a running gateway is tried
//! with the real binary.

use std::{fs, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, crypto,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::{case::Case, checks, dial::Dialer, *};
use crate::{
    clock::{Clock as _, ManualClock, SystemClock},
    config::Overrides,
};

const DAY: i64 = 86_400;

/// What the certificate of a server is to be.
struct Shows {
    name: &'static str,
    /// In days from now.
    from: i64,
    until: i64,
    is_trusted: bool,
}

impl Default for Shows {
    fn default() -> Self {
        Self { from: -1, is_trusted: true, name: "localhost", until: 90 }
    }
}

/// A case whose public URL is a server on this machine with such a certificate.
async fn shown(shows: Shows) -> Vec<Finding> {
    let clock: SharedClock = Arc::new(SystemClock::default());
    let now = i64::try_from(clock.moment().wall.as_secs()).unwrap();
    let date = |days: i64| OffsetDateTime::from_unix_timestamp(now + days * DAY).unwrap();
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![shows.name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date(shows.from), date(shows.until) + time::Duration::HOUR);
    let certificate = params.signed_by(&key, &issuer).unwrap();

    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    let mut roots = RootCertStore::empty();
    if shows.is_trusted {
        roots.add(ca.der().clone()).unwrap();
    } else {
        let key = KeyPair::generate().unwrap();
        let mut other = CertificateParams::default();
        other.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
        roots.add(other.self_signed(&key).unwrap().der().clone()).unwrap();
    }
    let dialer = Dialer::trusting(roots, Arc::clone(&clock));
    let url = format!("https://localhost:{}", address.port());
    checks::tls::check(&case(&url, dialer, clock).await).await
}

async fn case(url: &str, dialer: Dialer, clock: SharedClock) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    fs::write(&file, format!("state_dir = \"state\"\n[public]\nurl = \"{url}\"\n")).unwrap();
    let overrides = Overrides { config: Some(file), ..Default::default() };
    let config = Config::load(&overrides, |_| None).unwrap();
    Case::gather(config, Options { idle_s: 0 }, dialer, clock).await
}

#[track_caller]
fn expect(findings: &[Finding], level: Level, words: &str) {
    let found = findings.iter().find(|finding| finding.level == level && finding.what.contains(words));
    let found = found.unwrap_or_else(|| panic!("no {level:?} with `{words}` in {findings:#?}"));
    assert_eq!(found.remedy.is_none(), level == Level::Good, "what is not good has a remedy");
}

#[tokio::test]
async fn a_good_certificate_is_good_and_says_for_how_long() {
    expect(&shown(Shows::default()).await, Level::Good, "for 90 more days");
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_a_warning() {
    expect(&shown(Shows { until: 9, ..Shows::default() }).await, Level::Warning, "for 9 more days");
}

#[tokio::test]
async fn an_expired_certificate_is_a_problem() {
    expect(&shown(Shows { from: -90, until: -1, ..Shows::default() }).await, Level::Problem, "has expired");
}

#[tokio::test]
async fn a_certificate_of_tomorrow_is_a_problem() {
    expect(&shown(Shows { from: 1, ..Shows::default() }).await, Level::Problem, "not valid yet");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_problem() {
    let findings = shown(Shows { name: "push.example.org", ..Shows::default() }).await;
    expect(&findings, Level::Problem, "another name than localhost");
}

#[tokio::test]
async fn a_certificate_that_nobody_known_signed_is_a_problem() {
    let findings = shown(Shows { is_trusted: false, ..Shows::default() }).await;
    expect(&findings, Level::Problem, "nobody known has signed");
}

#[tokio::test]
async fn a_server_without_tls_is_a_problem() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let clock: SharedClock = Arc::new(SystemClock::default());
    let dialer = Dialer::new(Arc::clone(&clock));
    let case = case(&format!("https://localhost:{port}"), dialer, clock).await;
    expect(&checks::tls::check(&case).await, Level::Problem, "no TLS connection");
}

async fn name(url: &str) -> Vec<Finding> {
    let clock: SharedClock = Arc::new(SystemClock::default());
    let dialer = Dialer::new(Arc::clone(&clock));
    checks::name::check(&case(url, dialer, clock).await).await
}

#[tokio::test]
async fn names_that_lead_to_nobody_s_neighbours_are_told_apart() {
    expect(&name("https://192.168.1.10").await, Level::Warning, "a private network");
    expect(&name("https://10.1.2.3").await, Level::Warning, "a private network");
    expect(&name("https://100.64.0.1").await, Level::Warning, "CGNAT");
    expect(&name("https://100.127.255.254").await, Level::Warning, "CGNAT");
    expect(&name("https://169.254.1.1").await, Level::Warning, "one cable");
    expect(&name("https://[fd00::1]").await, Level::Warning, "a private network");
    expect(&name("https://localhost").await, Level::Warning, "this machine itself");
    expect(&name("https://100.128.0.1").await, Level::Good, "public");
    expect(&name("https://[2001:db8::1]").await, Level::Good, "public");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_problem() {
    expect(&name("https://nowhere.invalid").await, Level::Problem, "nowhere.invalid cannot be resolved");
}

/// What is said of a state below `/var/lib/gateway`, mounted so.
fn mounted(kind: &str, options: &str) -> Vec<Finding> {
    let all = format!(
        "22 1 8:1 / / rw,relatime - ext4 /dev/root rw\n\
         31 22 8:2 / /var/lib {options} shared:5 - {kind} /dev/mmcblk0p3 rw\n\
         40 22 0:5 / /var/library ro - tmpfs tmpfs ro"
    );
    checks::state::mount(&all, Path::new("/var/lib/gateway"))
}

#[test]
fn the_mount_of_the_state_is_judged_and_no_other() {
    expect(&mounted("ext4", "rw,noatime"), Level::Good, "/var/lib is ext4");
    expect(&mounted("ext4", "ro,noatime"), Level::Problem, "read-only");
    expect(&mounted("tmpfs", "rw"), Level::Problem, "gone after a power cut");
    expect(&mounted("overlay", "rw"), Level::Problem, "gone after a power cut");
    expect(&mounted("vfat", "rw"), Level::Warning, "does not promise");
    expect(&mounted("ext4", "rw,nobarrier"), Level::Problem, "without barriers");
    expect(&mounted("ext4", "rw,strictatime"), Level::Warning, "every read is a write");
    expect(&mounted("ext4", "rw,sync"), Level::Warning, "goes to the card alone");
    expect(&mounted("ext4", "rw,data=journal"), Level::Warning, "twice");
}

#[tokio::test]
async fn a_clock_of_before_is_a_problem() {
    let real = SystemClock::default().moment().wall;
    for (clock, words) in [
        (ManualClock::new(crate::model::UnixTime(real.0 - 3_600_000)), "at least 3"),
        (
            {
                let clock = ManualClock::new(real);
                clock.jump(0, false);
                clock
            },
            "not trusted",
        ),
    ] {
        let clock: SharedClock = Arc::new(clock);
        let dialer = Dialer::new(Arc::clone(&clock));
        let mut case = case("https://localhost", dialer, clock).await;
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("db"), "written now").unwrap();
        case.config.state_dir = dir.path().to_owned();
        expect(&checks::clock::check(&case), Level::Problem, words);
    }
}

#[test]
fn what_the_board_has_found_wrong_is_told_line_by_line() {
    expect(&checks::board::told(""), Level::Good, "were applied");
    let found =
        checks::board::told("settings.txt line 2: there is no setting \"x\"\ngateway.toml is wrong\n");
    assert_eq!(found.len(), 2);
    expect(&found, Level::Problem, "settings.txt line 2");
    expect(&found, Level::Problem, "gateway.toml is wrong");
}

/// dpkg's record of the gateway, with others around it.
fn dpkg_records(status: &str) -> String {
    format!(
        "Package: unifiedpush\nStatus: install ok unpacked\n\n\
         Package: unifiedpush-gateway\nStatus: {status}\nDescription: of\n Package: unifiedpush-gateway\n\n\
         Package: zlib1g\nStatus: install ok half-installed\n"
    )
}

#[test]
fn a_package_that_was_cut_off_is_told_and_the_newest_record_counts() {
    let dpkg = tempfile::tempdir().unwrap();
    let state = || checks::package::state(dpkg.path());
    assert_eq!(state(), None, "no Debian");
    fs::write(dpkg.path().join("status"), "Package: other\nStatus: install ok unpacked\n").unwrap();
    assert_eq!(state(), None, "another way of installation");
    for (status, expected) in [
        ("install ok installed", Some("installed")),
        ("install reinstreq half-installed", Some("half-installed")),
        ("install ok unpacked", Some("unpacked")),
        ("deinstall ok config-files", None),
    ] {
        fs::write(dpkg.path().join("status"), dpkg_records(status)).unwrap();
        assert_eq!(state().as_deref(), expected);
    }
    fs::create_dir(dpkg.path().join("updates")).unwrap();
    fs::write(dpkg.path().join("updates/0000"), dpkg_records("install ok half-configured")).unwrap();
    assert_eq!(state().as_deref(), Some("half-configured"));
    fs::write(dpkg.path().join("updates/0001"), dpkg_records("install ok installed")).unwrap();
    assert_eq!(state().as_deref(), Some("installed"));
    expect(&[checks::package::judged("installed")], Level::Good, "wholly installed");
    expect(&[checks::package::judged("unpacked")], Level::Problem, "is unpacked");
}

#[test]
fn a_report_counts_and_speaks_both_ways() {
    let mut report = Report::default();
    report.add("clock", vec![Finding::good("right")]);
    report.add("tls", vec![Finding::problem("expired", "renew it"), Finding::warning("soon", "hurry")]);
    assert_eq!((report.count(Level::Problem), report.count(Level::Warning)), (1, 1));
    let (mut text, mut json) = (Vec::new(), Vec::new());
    report.print(&mut text).unwrap();
    report.print_json(&mut json).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("PROBLEM tls           expired\n") && text.contains("→ renew it\n"), "{text}");
    assert!(text.ends_with("1 problems, 1 warnings\n"), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["problems"], 1);
    let expected =
        serde_json::json!({"check": "tls", "level": "problem", "what": "expired", "remedy": "renew it"});
    assert_eq!(json["findings"][1], expected);
}
