//! Certificates by ACME, from Let's Encrypt's own test server (Debian's pebble), and HTTPS with them.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use harness::{Foreign, Gateway, eventually, free_port, run};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

use crate::certificate;

const DOMAIN: &str = "push.example.org";

/// An authority, and a name server that leads every name to the loopback.
struct Authority {
    /// Whom its own HTTPS is to be believed by.
    believed: String,
    /// Each with its log.
    children: [(Child, PathBuf); 2],
    dir: TempDir,
    directory: SocketAddr,
    management: SocketAddr,
}

impl Authority {
    /// It looks for proofs at `looks_at`, and issues certificates for so many seconds.
    async fn start(pebble: &Path, names: &Path, looks_at: SocketAddr, seconds: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (believed, key) = certificate(dir.path()).await;
        let [directory, management, dns, control] = [free_port(), free_port(), free_port(), free_port()];
        let settings = json!({"pebble": {
            "listenAddress": directory.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": believed,
            "privateKey": key,
            "httpPort": 1,
            "tlsPort": looks_at.port(),
            "certificateValidityPeriod": seconds,
        }});
        let file = dir.path().join("pebble.json");
        fs::write(&file, settings.to_string()).unwrap();
        let spawn = |command: &mut Command, log: &str| {
            let path = dir.path().join(log);
            let log = fs::File::create(&path).unwrap();
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
            (command.spawn().unwrap(), path)
        };
        let mut resolver = Command::new(names);
        resolver.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", &dns.to_string()]);
        resolver.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", &control.to_string()]);
        let mut authority = Command::new(pebble);
        authority.arg("-config").arg(&file).args(["-dnsserver", &dns.to_string()]);
        // It refuses good nonces now and then, as real ones do; but does not wait before it looks.
        authority.env("PEBBLE_VA_NOSLEEP", "1");
        let children = [spawn(&mut resolver, "names.log"), spawn(&mut authority, "authority.log")];
        let mut this = Self { believed, children, dir, directory, management };
        eventually("the authority answers", async || {
            this.expect_running();
            this.root().await
        })
        .await;
        this
    }

    fn expect_running(&mut self) {
        for (child, log) in &mut self.children {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{status}: {}", fs::read_to_string(log).unwrap());
            }
        }
    }

    /// The root of what it issues.
    async fn root(&self) -> Option<String> {
        let url = format!("https://localhost:{}/roots/0", self.management.port());
        let got = run("curl", ["-sf", "--cacert", &self.believed, &url]).await;
        let path = self.dir.path().join("root.pem");
        fs::write(&path, &got.stdout).unwrap();
        (got.code == Some(0)).then(|| path.display().to_string())
    }

    async fn gateway(&self, https: SocketAddr) -> Gateway {
        let config = format!(
            "[public]\nurl = \"https://{DOMAIN}:{}\"\n[public.tls]\nlisten = \"{https}\"\n\
             [public.tls.acme]\nagree_to_terms = true\ncontact = \"owner@example.org\"\n\
             directory = \"https://localhost:{}/dir\"\n",
            https.port(),
            self.directory.port(),
        );
        Gateway::new().config(&config).env("SSL_CERT_FILE", &self.believed).start().await
    }

    /// What somebody who believes this authority gets from the gateway.
    async fn fetch(&self, https: SocketAddr, url: &str, more: &[&str]) -> Option<String> {
        let root = self.root().await?;
        let to = format!("{DOMAIN}:{}:127.0.0.1", https.port());
        let mut args = vec!["-s", "--cacert", &root, "--resolve", &to, "-o", "/dev/null"];
        args.extend(["-w", "%{http_code} %{certs}", url]);
        args.extend(more);
        let got = run("curl", args).await;
        (got.code == Some(0)).then_some(got.stdout)
    }
}

fn programs(test: &str) -> Option<[PathBuf; 2]> {
    Foreign::program(test, "curl")?;
    Some([Foreign::program(test, "pebble")?, Foreign::program(test, "pebble-challtestsrv")?])
}

/// The certificate as curl shows it, whatever the answer was.
fn shown(answer: &str) -> &str {
    answer.split_once(' ').expect("a code and certificates").1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_ordered_and_kept_over_a_restart() {
    let Some([pebble, names]) = programs("ACME") else { return };
    let https = free_port();
    let authority = Authority::start(&pebble, &names, https, 90 * 86_400).await;
    let mut gateway = authority.gateway(https).await;
    let home = format!("https://{DOMAIN}:{}/health", https.port());
    eventually("there is a certificate", async || authority.fetch(https, &home, &[]).await).await;

    let device = gateway.pair("phone").await;
    let endpoint = gateway.cli(["registration", "add", &device.id, "app"]).await.text().to_owned();
    assert!(endpoint.starts_with(&format!("https://{DOMAIN}:{}/p/", https.port())), "{endpoint}");
    let push = ["-H", "TTL: 60", "--data-binary", "a push by HTTPS"];
    let first = authority.fetch(https, &endpoint, &push).await.expect("the certificate is good");
    assert!(first.starts_with("201 "), "{first}");

    gateway.restart().await;
    let again = authority.fetch(https, &home, &[]).await.expect("it is there at once");
    assert_eq!(shown(&first), shown(&again), "another certificate although the first is good");
    let secret = fs::read_dir(gateway.state_dir().join("tls/acme")).unwrap().next().unwrap().unwrap().path();
    for file in fs::read_dir(secret).unwrap() {
        let mode = file.as_ref().unwrap().metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?} is the owner's alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_before_it_ends() {
    let Some([pebble, names]) = programs("renewal by ACME") else { return };
    let https = free_port();
    let authority = Authority::start(&pebble, &names, https, 9).await;
    let _gateway = authority.gateway(https).await;
    let home = format!("https://{DOMAIN}:{}/health", https.port());
    let mut seen = Vec::new();
    eventually("three certificates have been shown, none of which had ended", async || {
        if let Some(answer) = authority.fetch(https, &home, &[]).await {
            let certificate = shown(&answer).to_owned();
            if !seen.contains(&certificate) {
                seen.push(certificate);
            }
        }
        (seen.len() == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_has_mended_the_way_need_not_wait() {
    let Some([pebble, names]) = programs("failing ACME") else { return };
    let (https, elsewhere) = (free_port(), free_port());
    let astray = Authority::start(&pebble, &names, elsewhere, 86_400).await;
    let gateway = astray.gateway(https).await;
    eventually("the failure is explained", async || {
        let log = gateway.log();
        let why = "could not see that push.example.org leads here";
        (log.contains(why) && log.contains("must end at [public.tls] listen")).then_some(())
    })
    .await;
    let home = format!("https://{DOMAIN}:{}/health", https.port());
    assert_eq!(astray.fetch(https, &home, &[]).await, None, "there is nothing to show");
    let port = gateway.public.port();
    let plain = run("curl", ["-sf", &format!("http://127.0.0.1:{port}/health")]).await;
    assert_eq!(plain.code, Some(0), "the other listeners serve");
    // The way leads to the gateway now.
    let relay = TcpListener::bind(elsewhere).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = relay.accept().await {
            let mut to = TcpStream::connect(https).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut from, &mut to).await });
        }
    });
    gateway.reload();
    eventually("there is a certificate", async || astray.fetch(https, &home, &[]).await).await;
}
