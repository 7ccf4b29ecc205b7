//! `listen` against a scripted gateway.

mod peer;

use std::{
    cell::RefCell,
    io::{self, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use super::*;
use crate::{
    clock::ManualClock,
    console::{Pairing, Status},
    model::UnixTime,
};
use peer::Peer;

const ID: &str = "0000000000001";
/// How long either side waits for the other before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Standard output that the gateway's thread can look at.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<String>>);

impl Screen {
    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `listen` in this thread and `gateway` in another; gives the result and what was noted.
struct Trial {
    args: ListenArgs,
    asked: RefCell<Vec<Request>>,
    screen: Screen,
    state: tempfile::TempDir,
}

impl Trial {
    fn new(count: Option<u64>) -> Self {
        Self {
            args: ListenArgs { device: None, secret: None, mqtt: None, count, json: false },
            asked: RefCell::default(),
            screen: Screen::default(),
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn run(
        &self,
        out: &mut dyn Write,
        gateway: impl FnOnce(&TcpListener, oneshot::Sender<()>) + Send + 'static,
    ) -> (Result<(), CliError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let peer = thread::spawn(move || gateway(&listener, stop));
        let ask = |request: &Request| {
            self.asked.borrow_mut().push(request.clone());
            if *request == Request::Status {
                let (mqtt, public) = (format!("mqtt://{address}"), String::new());
                return Ok(Reply::Status(Status { home: None, https: None, mqtt, mqtts: None, public }));
            }
            assert!(matches!(request, Request::DeviceAdd { .. }), "{request:?}");
            let pairings = self.pairings();
            let (device, secret) = (format!("{pairings:013}"), format!("secret {pairings}"));
            Ok(Reply::Paired(Pairing { device, secret, uri: String::new() }))
        };
        let mut notes = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stop = pin!(async {
            if stopped.await.is_err() {
                // The gateway's side is over without a word: `listen` must end by itself.
                tokio::time::sleep(PATIENCE).await;
                panic!("`listen` goes on without a gateway");
            }
        });
        let clock: SharedClock = Arc::new(ManualClock::new(UnixTime(1_800_000_000_000)));
        let show = Show::new(self.args.json, out, &mut notes);
        let run = run(&self.args, self.state.path(), &ask, show, clock, &runtime, stop);
        peer.join().expect("the gateway's side went as scripted");
        (run, String::from_utf8(notes).unwrap())
    }

    fn pairings(&self) -> usize {
        let asked = self.asked.borrow();
        asked.iter().filter(|request| matches!(request, Request::DeviceAdd { .. })).count()
    }
}

#[test]
fn pushes_are_shown_then_acknowledged_and_counted() {
    let trial = Trial::new(Some(2));
    let screen = trial.screen.clone();
    let (result, notes) = trial.run(&mut trial.screen.clone(), move |listener, _stop| {
        let mut peer = Peer::accept(listener, ID, "secret 1");
        peer.register("https://push.example.org/p/abc");
        peer.push(7, "one", "m1");
        peer.expect_ack(7);
        assert!(screen.text().contains("one"), "acknowledged only after it was shown");
        peer.plan();
        peer.push(8, "two", "m2");
        // Too many: it stays with the gateway.
        peer.push(9, "three", "m3");
        peer.expect_ack(8);
        peer.expect_disconnect();
    });
    result.unwrap();
    assert_eq!(notes, "");
    let text = trial.screen.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(lines[0], "endpoint https://push.example.org/p/abc");
    let subscription: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(subscription["endpoint"], "https://push.example.org/p/abc");
    assert_eq!(subscription["keys"]["p256dh"].as_str().map(str::len), Some(87));
    assert_eq!(subscription["keys"]["auth"].as_str().map(str::len), Some(22));
    assert_eq!(lines[2], "push [3 bytes, 25 ms, not encrypted] one");
    assert_eq!(lines[3], "push [3 bytes, 25 ms, not encrypted] two");
}

#[test]
fn what_could_not_be_shown_is_not_acknowledged() {
    /// Takes the endpoint, then the reader is gone.
    struct Closing;
    impl Write for Closing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let push = bytes.windows(4).any(|bytes| bytes == b"push");
            if push { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let trial = Trial::new(None);
    let (result, _) = trial.run(&mut Closing, |listener, _stop| {
        let mut peer = Peer::accept(listener, ID, "secret 1");
        peer.register("https://example.org/p/abc");
        peer.push(7, "one", "m1");
        peer.expect_end();
    });
    assert!(matches!(result, Err(CliError::Output(_))), "{result:?}");
}

#[test]
fn a_lost_connection_is_taken_up_and_what_was_shown_is_not_shown_again() {
    let trial = Trial::new(Some(2));
    let (result, notes) = trial.run(&mut trial.screen.clone(), |listener, _stop| {
        let mut peer = Peer::accept(listener, ID, "secret 1");
        peer.register("https://push.example.org/p/abc");
        peer.push(7, "one", "m1");
        peer.expect_ack(7);
        // The acknowledgement was lost on the way, the gateway believes.
        drop(peer);
        let mut peer = Peer::accept(listener, ID, "secret 1");
        peer.register("https://push.example.org/p/abc");
        peer.push(3, "one", "m1");
        peer.expect_ack(3);
        peer.push(4, "two", "m2");
        peer.expect_ack(4);
        peer.expect_disconnect();
    });
    result.unwrap();
    assert!(notes.contains("trying again in 1 s") && notes.contains("connected"), "{notes}");
    let text = trial.screen.text();
    assert_eq!(text.matches("] one").count(), 1, "{text}");
    assert_eq!(text.matches("endpoint https").count(), 1, "the same endpoint is not repeated: {text}");
}

#[test]
fn a_plan_is_obeyed_if_it_makes_sense() {
    let trial = Trial::new(Some(2));
    let (result, notes) = trial.run(&mut trial.screen.clone(), |listener, _stop| {
        let mut peer = Peer::accept(listener, ID, "secret 1");
        assert_eq!(peer.keep_alive, 60);
        peer.register("https://push.example.org/p/abc");
        peer.plan();
        for absurd in ["-3", "0", "9", "65536", "1e99", "\"60\"", "null"] {
            peer.send("plan", &format!(r#"{{"keep_alive_s":{absurd}}}"#));
        }
        peer.send("plan", "nonsense");
        peer.push(7, "one", "m1");
        peer.expect_ack(7);
        drop(peer);
        let mut peer = Peer::accept(listener, ID, "secret 1");
        assert_eq!(peer.keep_alive, 900, "it does as the plan said");
        peer.register("https://push.example.org/p/abc");
        peer.push(3, "two", "m2");
        peer.expect_ack(3);
        peer.expect_disconnect();
    });
    result.unwrap();
    assert_eq!(notes.matches("only 10 to 65535 s make sense; going on with 900 s").count(), 8, "{notes}");
    assert!(notes.contains("of -3 s"), "{notes}");
}

#[test]
fn stopping_says_goodbye() {
    let trial = Trial::new(None);
    let (result, _) = trial.run(&mut trial.screen.clone(), |listener, stop| {
        let mut peer = Peer::accept(listener, ID, "secret 1");
        peer.register("https://push.example.org/p/abc");
        stop.send(()).unwrap();
        peer.expect_disconnect();
    });
    result.unwrap();
}

#[test]
fn a_device_that_was_removed_is_paired_again_once() {
    let trial = Trial::new(Some(1));
    let (result, notes) = trial.run(&mut trial.screen.clone(), |listener, _stop| {
        Peer::refuse(listener);
        let mut peer = Peer::accept(listener, "0000000000002", "secret 2");
        peer.register("https://push.example.org/p/new");
        peer.push(1, "one", "m1");
        peer.expect_ack(1);
        peer.expect_disconnect();
    });
    result.unwrap();
    assert_eq!(trial.pairings(), 2);
    assert!(notes.contains(ID) && notes.contains("pairing again"), "{notes}");

    // Next time it is the second device from the start.
    let (result, _) = trial.run(&mut trial.screen.clone(), |listener, _stop| {
        let mut peer = Peer::accept(listener, "0000000000002", "secret 2");
        peer.register("https://push.example.org/p/new");
        peer.push(1, "two", "m2");
        peer.expect_ack(1);
        peer.expect_disconnect();
    });
    result.unwrap();
    assert_eq!(trial.pairings(), 2);

    let (result, _) = trial.run(&mut trial.screen.clone(), |listener, _stop| {
        Peer::refuse(listener);
        Peer::refuse(listener);
    });
    assert!(matches!(result, Err(CliError::Failed(why)) if why.contains("--mqtt")));
}

#[test]
fn a_given_device_that_is_refused_is_not_replaced() {
    let mut trial = Trial::new(None);
    trial.args.device = Some(ID.to_owned());
    trial.args.secret = Some("hush".to_owned());
    let (result, notes) = trial.run(&mut trial.screen.clone(), |listener, _stop| Peer::refuse(listener));
    let why = result.unwrap_err().to_string();
    assert!(why.contains("--secret") && !why.contains("hush") && !notes.contains("hush"), "{why} {notes}");
    assert_eq!(trial.pairings(), 0);
}

#[test]
fn a_refused_or_removed_registration_ends_it_with_the_reason() {
    let trial = Trial::new(None);
    let (result, _) = trial.run(&mut trial.screen.clone(), |listener, _stop| {
        let mut peer = Peer::accept(listener, ID, "secret 1");
        // The end of an earlier registration is none of ours.
        peer.send("unregistered", r#"{"token":"listen"}"#);
        peer.send("refused", r#"{"token":"another app","reason":"NETWORK"}"#);
        peer.send("refused", r#"{"token":"listen","reason":"ACTION_REQUIRED"}"#);
        peer.expect_end();
    });
    assert!(result.unwrap_err().to_string().contains("ACTION_REQUIRED"));
    let (result, _) = trial.run(&mut trial.screen.clone(), |listener, _stop| {
        let mut peer = Peer::accept(listener, ID, "secret 1");
        peer.register("https://push.example.org/p/abc");
        peer.send("unregistered", r#"{"token":"listen"}"#);
        peer.expect_end();
    });
    assert!(result.unwrap_err().to_string().contains("was removed"));
}
