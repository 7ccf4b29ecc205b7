//! The samples of gateway/packaging/proxy in Debian's nginx and caddy: pushes, WebSockets, sources. The
//! doctor says what is right, and what is wrong when a line is missing.

use std::{fs, net::SocketAddr, path::PathBuf, process::Stdio};

use harness::{Foreign, Gateway, eventually, free_port, within, workspace};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    net::{TcpSocket, TcpStream},
    process::{Child, Command},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, client::IntoClientRequest as _},
};

use crate::certificate;

/// A proxy before a gateway, with a certificate for `localhost`.
struct Place {
    dir: TempDir,
    gateway: Gateway,
    /// Where the proxy speaks without TLS, for tests that come from elsewhere.
    plain: SocketAddr,
    /// Where it speaks TLS.
    tls: SocketAddr,
}

impl Place {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificate = certificate(dir.path()).await.0;
        let (plain, tls) = (free_port(), free_port());
        let config = format!(
            "[public]\nurl = \"https://localhost:{}\"\n[transport.web]\nmax_connections_per_source = 1\n",
            tls.port()
        );
        let gateway = Gateway::new().config(&config).env("SSL_CERT_FILE", &certificate).start().await;
        Self { dir, gateway, plain, tls }
    }

    fn sample(name: &str) -> String {
        fs::read_to_string(workspace().join("gateway/packaging/proxy").join(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The sample for nginx, with nothing changed but what its first lines ask for, and `change`.
    async fn nginx(&self, program: &PathBuf, change: impl FnOnce(String) -> String) -> Proxy {
        let here = self.dir.path().display().to_string();
        let sample = Self::sample("nginx.conf")
            .replace("127.0.0.1:8080", &self.gateway.public.to_string())
            .replace("listen 443 ssl;", &format!("listen {} ssl;\n    listen {};", self.tls, self.plain))
            .replace("    listen [::]:443 ssl;\n", "")
            .replace("/etc/letsencrypt/live/push.example.org/fullchain.pem", &format!("{here}/chain.pem"))
            .replace("/etc/letsencrypt/live/push.example.org/privkey.pem", &format!("{here}/key.pem"))
            .replace("push.example.org", "localhost");
        let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {here}/{name};\n"))
            .concat();
        let whole = format!(
            "user root;\npid {here}/pid;\nerror_log {here}/log;\nevents {{}}\nhttp {{\n{places}{}\n}}\n",
            change(sample)
        );
        let file = self.write("nginx.conf", &whole);
        let mut command = Command::new(program);
        command
            .args(["-p", &here, "-e", &format!("{here}/log"), "-g", "daemon off; master_process off;", "-c"])
            .arg(file);
        Proxy::start(command, self.tls).await
    }

    async fn caddy(&self, program: &PathBuf) -> Proxy {
        let here = self.dir.path().display().to_string();
        let sample = Self::sample("Caddyfile").replace("127.0.0.1:8080", &self.gateway.public.to_string());
        let with_tls = sample.replace(
            "push.example.org {",
            &format!("https://localhost:{} {{\n\ttls {here}/chain.pem {here}/key.pem", self.tls.port()),
        );
        let without = sample.replace("push.example.org {", &format!("http://{} {{", self.plain));
        let whole = format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{with_tls}\n{without}\n");
        let file = self.write("Caddyfile", &whole);
        let mut command = Command::new(program);
        command.env("HOME", &here).env("XDG_DATA_HOME", &here).env("XDG_CONFIG_HOME", &here);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
        Proxy::start(command, self.tls).await
    }

    async fn doctor(&self, idle: &str) -> (Value, Option<i32>) {
        let output = self.gateway.cli(["doctor", "--json", "--idle", idle]).await;
        let report = serde_json::from_str(&output.stdout);
        (report.unwrap_or_else(|error| panic!("{error}: {output:?}")), output.code)
    }

    /// A WebSocket by way of the proxy, from this address; the status if there is none.
    async fn web_socket(
        &self,
        from: &str,
        pretends: Option<&str>,
    ) -> Result<WebSocketStream<TcpStream>, u16> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let stream = socket.connect(self.plain).await.unwrap();
        let mut request = format!("ws://{}/mqtt", self.plain).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().unwrap());
        if let Some(address) = pretends {
            request.headers_mut().insert("x-forwarded-for", address.parse().unwrap());
        }
        match within("the handshake", client_async(request, stream)).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Everything that the samples promise.
    async fn expect_healthy(&self) {
        let (report, code) = self.doctor("3").await;
        assert_eq!(code, Some(0), "{report:#}");
        expect(&report, "tls", "good", "the certificate is good for");
        expect(&report, "public", "good", "leads from here to a gateway");
        expect(&report, "matrix", "good", "is the gateway's");
        expect(&report, "push", "good", "came back to a device");
        expect(&report, "proxy", "good", "passes WebSockets on");
        expect(&report, "proxy", "good", "idle for 3 s still lives");

        // One place for each source: who counts is who has come to the proxy, whatever it says of itself.
        let first = self.web_socket("127.0.0.2", None).await;
        assert!(first.is_ok());
        assert_eq!(self.web_socket("127.0.0.2", Some("192.0.2.9")).await.err(), Some(429));
        assert!(self.web_socket("127.0.0.3", None).await.is_ok(), "another source has its own place");
    }
}

/// A running proxy; killed when it goes out of scope.
struct Proxy(Child);

impl Proxy {
    async fn start(mut command: Command, address: SocketAddr) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        eventually("the proxy listens", async || TcpStream::connect(address).await.ok()).await;
        Self(child)
    }

    /// In order, and waits for it: another one takes its address.
    async fn stop(mut self) {
        let pid = i32::try_from(self.0.id().unwrap()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
        within("the proxy stops", self.0.wait()).await.unwrap();
    }
}

#[track_caller]
fn expect(report: &Value, check: &str, level: &str, words: &str) {
    let all = report["findings"].as_array().unwrap();
    let is = |line: &&Value| {
        line["check"] == check && line["level"] == level && line["what"].as_str().unwrap().contains(words)
    };
    assert!(all.iter().any(|line| is(&line)), "no {level} of {check} with `{words}` in {report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_with_our_sample_passes_everything_and_the_doctor_misses_each_line() {
    let Some(program) = Foreign::program("nginx", "nginx") else { return };
    let place = Place::new().await;
    let nginx = place.nginx(&program, |sample| sample).await;
    place.expect_healthy().await;
    nginx.stop().await;

    let nginx = place.nginx(&program, |sample| sample.replace("proxy_set_header Upgrade", "#")).await;
    let (report, code) = place.doctor("1").await;
    assert_eq!(code, Some(1));
    expect(&report, "proxy", "problem", "something before it does not pass them on");
    expect(&report, "push", "good", "came back");
    nginx.stop().await;

    let nginx = place.nginx(&program, |sample| sample.replace("read_timeout 1h", "read_timeout 2s")).await;
    let (report, _) = place.doctor("10").await;
    expect(&report, "proxy", "warning", "was cut after 2 s of silence");
    nginx.stop().await;

    let elsewhere = free_port().to_string();
    let own = place.gateway.public.to_string();
    let nginx = place.nginx(&program, |sample| sample.replace(&own, &elsewhere)).await;
    let (report, _) = place.doctor("1").await;
    expect(&report, "public", "problem", "the proxy is there, and does not reach the gateway");
    nginx.stop().await;

    let matrix = "location /_matrix/ { return 404; }\n    location / {";
    let nginx = place.nginx(&program, |sample| sample.replace("location / {", matrix)).await;
    let (report, _) = place.doctor("1").await;
    expect(&report, "matrix", "warning", "404");
    expect(&report, "push", "good", "came back");
    nginx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_with_our_sample_passes_everything() {
    let Some(program) = Foreign::program("caddy", "caddy") else { return };
    let place = Place::new().await;
    let caddy = place.caddy(&program).await;
    place.expect_healthy().await;
    caddy.stop().await;
}
